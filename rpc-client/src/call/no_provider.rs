//! Why no provider accepts a call: [`may_change`] and [`explain`].

use std::{net::SocketAddr, sync::Arc};

use rpc_core::{Code, Error, Phase};

use super::{
    error::join_parts,
    pick::{ExcludedChannel, is_excluded},
    target::{Target, WEIGHTLESS},
};
use crate::{
    client_core::ClientCore,
    discovery::providers::{ProviderList, ServiceProviders},
    endpoint::Endpoint,
};

/// Returns whether an answer of the registry or of a peer is pending that may provide a channel soon.
pub(super) fn may_change(core: &ClientCore, target: &Target, excluded: &[ExcludedChannel]) -> bool {
    let endpoint_may_change = |endpoint: &Arc<Endpoint>| {
        // An endpoint may have become ready since the pick; its notification is pending, and the next pick finds it.
        let is_ready = || endpoint.eligible_channel().is_some_and(|channel| !is_excluded(&channel, excluded));
        endpoint.is_pending() || is_ready()
    };
    match target {
        Target::Address(address) => endpoint_may_change(&core.pool().get_or_insert(*address)),
        Target::Service(providers) => {
            let list = providers.list();
            // A call with an affinity key waits for the connections to all providers.
            let awaits_all = providers.uses_keys() && !list.outside.is_empty();
            awaits_all || providers.is_replacing() || !list.is_known() || list.endpoints.iter().any(endpoint_may_change)
        }
    }
}

/// Returns the error of a call that ends because no provider accepts it.
pub(super) fn explain(core: &ClientCore, target: &Target, tag: Option<&str>, excluded: &[ExcludedChannel]) -> Error {
    match target {
        Target::Address(address) => {
            let endpoint = core.pool().get_or_insert(*address);
            let describe = |_| endpoint.state().to_string();
            explain_endpoints(&address.to_string(), std::slice::from_ref(&endpoint), &[], describe, excluded)
        }
        Target::Service(providers) => explain_service(core, providers, tag, excluded),
    }
}

fn explain_service(
    core: &ClientCore,
    providers: &ServiceProviders,
    tag: Option<&str>,
    excluded: &[ExcludedChannel],
) -> Error {
    let list = providers.list();
    let ProviderList { endpoints, weightless, disabled, .. } = &**list;
    let (service, url) = (providers.service(), core.services().registry_url());
    let unresolved = |message| Error::not_executed(Code::Unavailable, message).with_phase(Phase::Resolve);
    match (endpoints.is_empty() && weightless.is_empty(), disabled.len()) {
        _ if !list.is_known() => unresolved(format!("{url} has not answered a query for {service}")),
        (true, 0) => unresolved(format!("{url} lists no provider of {service} that answers")),
        (true, count) => unresolved(format!("all {count} providers of {service} are disabled in {url}")),
        (false, _) => {
            let describe = |index: usize| list.describe(index, tag);
            explain_endpoints(&service.to_string(), endpoints, weightless, describe, excluded)
        }
    }
}

fn explain_endpoints(
    callee: &str,
    endpoints: &[Arc<Endpoint>],
    weightless: &[SocketAddr],
    describe: impl Fn(usize) -> String,
    excluded: &[ExcludedChannel],
) -> Error {
    // If every provider rejects the client's credentials, the code is `Unauthenticated` instead of `Unavailable`.
    let rejects = |endpoint: &Arc<Endpoint>| {
        endpoint.state().failure().is_some_and(|error| error.code() == Code::Unauthenticated)
    };
    let all_unauthenticated = !endpoints.is_empty() && endpoints.iter().all(rejects);
    // An index, because the length of a chain of iterators is not known exactly.
    let reasons = (0..endpoints.len() + weightless.len()).map(|index| {
        let Some(endpoint) = endpoints.get(index) else {
            return format!("{}: {WEIGHTLESS}", weightless[index - endpoints.len()]);
        };
        let address = endpoint.address();
        match excluded.iter().find(|excluded| excluded.channel.address() == address) {
            Some(excluded) => excluded.reason.to_string(),
            None => format!("{address}: {}", describe(index)),
        }
    });
    let code = if all_unauthenticated { Code::Unauthenticated } else { Code::Unavailable };
    let message = format!("no provider of {callee} accepts calls: {}", join_parts(reasons));
    Error::not_executed(code, message).with_phase(Phase::Connect)
}
