//! The codec of an attempt: that of the call, or one with names if the contracts of caller and provider differ.

use std::{sync::Arc, time::Duration};

use rpc_core::{
    CallOptions, Code, Codec, Error, MethodInfo, Phase, Request, ServiceClient, descriptor::check_by_name,
    reflection::ReflectionClient,
};
use tokio::time::{Instant, timeout_at};

use super::{acquired::Acquired, error::deadline_passed};
use crate::{
    client_core::ClientCore,
    compatibility::{Contracts, Verdict},
    config::ClientConfig,
    connection::channel::Channel,
};

/// Why a call has no codec for a channel.
pub(super) enum Disagreement {
    /// The contracts differ and were not compared.
    Undecided(Contracts),
    /// The contracts are not compatible.
    Incompatible(Error),
}

/// Returns the codec of a call to a provider with the same contract.
fn wanted_codec(method: &MethodInfo, options: &CallOptions, config: &ClientConfig) -> Codec {
    options.codec.or(method.default_codec()).unwrap_or(config.codec)
}

/// Returns the codec of a call on a channel. The comparison of `compared` has just ended, with or without a verdict.
#[inline]
pub(super) fn agree<A>(
    core: &ClientCore,
    request: &Request<A>,
    channel: &Channel,
    compared: Option<Contracts>,
) -> Result<Codec, Disagreement> {
    let wanted = wanted_codec(request.method, &request.options, core.config());
    let Some(contracts) = differing(request.method, channel) else { return Ok(wanted) };
    agree_on_differing(core, request.method, wanted, contracts, channel, compared)
}

/// Returns the contracts of a method if they differ; `None` also if the peer has not sent its digests.
#[inline]
fn differing(method: &MethodInfo, channel: &Channel) -> Option<Contracts> {
    if !channel.has_digests() {
        return None;
    }
    let caller = method.digest()?;
    let provider = channel.digest(caller.route)?;
    (provider != caller.digest).then_some(Contracts { route: caller.route, caller: caller.digest, provider })
}

#[cold]
fn agree_on_differing(
    core: &ClientCore,
    method: &MethodInfo,
    wanted: Codec,
    contracts: Contracts,
    channel: &Channel,
    compared: Option<Contracts>,
) -> Result<Codec, Disagreement> {
    // Raw bytes have no form; and the description of contracts cannot depend on the description of its own.
    if wanted == Codec::Raw || method.service() == <ReflectionClient as ServiceClient>::service_id() {
        return Ok(wanted);
    }
    match core.compatibility().verdict(contracts) {
        None if compared != Some(contracts) => Err(Disagreement::Undecided(contracts)),
        None | Some(Verdict::ByName | Verdict::Unchecked { .. }) => Ok(with_names(wanted)),
        Some(Verdict::Incompatible(reason)) => {
            let message = format!("the contracts of {} differ: {reason}", method.route());
            let error = Error::not_executed(Code::FailedPrecondition, message).with_phase(Phase::Send);
            Err(Disagreement::Incompatible(error.with_peer(channel.address())))
        }
    }
}

/// Returns the codec that replaces one without names.
fn with_names(codec: Codec) -> Codec {
    if codec == Codec::Bincode { Codec::MessagePack } else { codec }
}

/// Compares the contracts of a method at both ends, then returns the channel.
///
/// If the provider does not answer, calls go by name, and the contracts are compared again later.
pub(super) async fn decide(
    core: Arc<ClientCore>,
    method: &'static MethodInfo,
    contracts: Contracts,
    channel: Arc<Channel>,
    deadline: Instant,
) -> Result<Acquired, Error> {
    let cell = core.compatibility().cell(contracts);
    let verdict = cell.get_or_init(|| compare(&core, method, contracts, &channel, deadline));
    match timeout_at(deadline, verdict).await {
        Ok(_) => Ok(Acquired { compared: Some(contracts), ..Acquired::at_once(channel) }),
        Err(_) => Err(deadline_passed().with_peer(channel.address())),
    }
}

/// Requests the description of the provider's contract, and compares it with the caller's.
async fn compare(
    core: &Arc<ClientCore>,
    method: &'static MethodInfo,
    contracts: Contracts,
    channel: &Channel,
    deadline: Instant,
) -> Verdict {
    let later = || Verdict::Unchecked { until: Some(Instant::now() + COMPARED_AGAIN) };
    // The call itself needs the rest of its time.
    let time = (deadline.saturating_duration_since(Instant::now()) / 4).min(MAX_DESCRIBE);
    let described = core.describe(channel.address(), method.service(), time).await;
    let provider = match described {
        Ok(contract) => contract,
        Err(error) => {
            return match error.code() {
                Code::Unimplemented
                | Code::NotFound
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::Internal => Verdict::Unchecked { until: None },
                _ => later(),
            };
        }
    };
    if provider.types.len() > MAX_DESCRIBED_TYPES {
        return Verdict::Unchecked { until: None };
    }
    let Some(provider_method) = provider.method(method.name()) else { return later() };
    // Another process may serve the address by now.
    if provider.method_digest(provider_method) != contracts.provider {
        return later();
    }
    let (Some(caller), Some(caller_method)) = (method.service_contract(), method.contract()) else {
        return Verdict::Unchecked { until: None };
    };
    match check_by_name((caller, caller_method), (&provider, provider_method)) {
        Ok(()) => Verdict::ByName,
        Err(mismatch) => {
            // The provider determines the names of its types, and every failed call copies the reason.
            let reason = mismatch.to_string();
            Verdict::Incompatible(reason[..reason.floor_char_boundary(MAX_REASON)].into())
        }
    }
}

/// The longest time in which a provider must describe its contract. A call waits for it a quarter of its time at most.
const MAX_DESCRIBE: Duration = Duration::from_secs(1);
/// After this time, contracts that could not be compared are compared again.
const COMPARED_AGAIN: Duration = Duration::from_secs(5);
/// The longest reason for which contracts are not compatible, in bytes.
const MAX_REASON: usize = 1024;
/// The largest number of types in the description of a provider.
const MAX_DESCRIBED_TYPES: usize = 4096;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use rpc_core::{
        BoxFuture, ServiceId,
        descriptor::Contract,
        transport::{Outbox, Tcp},
    };

    use super::*;
    use crate::{connection::credentials::Credentials, rules::source::RulesSource};

    fn describe(
        _: Arc<ClientCore>,
        _: SocketAddr,
        _: &ServiceId,
        _: Duration,
    ) -> BoxFuture<'static, Result<Contract, Error>> {
        Box::pin(std::future::pending())
    }

    /// While a call waits for a comparison, another attempt may end, and the call picks another channel.
    #[test]
    fn comparison_counts_for_its_own_contracts_only() {
        let rules = RulesSource::new(None, None, None).unwrap();
        let config = ClientConfig::default();
        let core = ClientCore::new(config, None, Arc::new(Tcp), Credentials::default(), describe, rules);
        let method = MethodInfo::new(ServiceId::from_static("demo.Greeter", "1.0"), "hello");
        let address = ([127, 0, 0, 1], 1).into();
        let channel = Channel::new(address, Arc::new(Outbox::new(1000)), 1, Arc::default(), &Default::default());
        let contracts = |provider| Contracts { route: 1, caller: 2, provider };
        let agree = |compared| agree_on_differing(&core, &method, Codec::Bincode, contracts(3), &channel, compared);
        assert!(matches!(agree(None), Err(Disagreement::Undecided(_))));
        assert!(matches!(agree(Some(contracts(4))), Err(Disagreement::Undecided(_))));
        assert!(matches!(agree(Some(contracts(3))), Ok(Codec::MessagePack)));
    }
}
