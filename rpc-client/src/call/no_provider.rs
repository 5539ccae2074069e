//! [`NoProvider`]: why no provider accepts a call.

use std::sync::Arc;

use rpc_core::{Code, Error, Phase};

use super::{
    error::join_parts,
    pick::{ExcludedChannel, is_excluded},
    target::Target,
};
use crate::{
    client_core::ClientCore,
    discovery::providers::{ProviderList, ServiceProviders},
    endpoint::{Endpoint, state::EndpointState},
};

/// Why no provider accepts a call.
pub(super) struct NoProvider {
    /// The error of the call if it ends now or at its deadline.
    pub(super) error: Error,
    /// Whether an answer of the registry or of a peer is pending that may provide a channel soon.
    pub(super) may_change: bool,
}

impl NoProvider {
    /// Collects the states of the target's endpoints.
    pub(super) fn survey(core: &ClientCore, target: &Target, excluded: &[ExcludedChannel]) -> Self {
        match target {
            Target::Address(address) => {
                let endpoint = core.pool().get_or_insert(*address);
                Self::of_endpoints(&address.to_string(), &[endpoint], excluded)
            }
            Target::Service(providers) => Self::of_service(core, providers, excluded),
        }
    }

    fn of_service(core: &ClientCore, providers: &ServiceProviders, excluded: &[ExcludedChannel]) -> Self {
        let ProviderList { answered, stale, endpoints, disabled, .. } = &**providers.list();
        let (service, url) = (providers.service(), core.services().registry_url());
        let unresolved = |message, may_change| {
            let error = Error::not_executed(Code::Unavailable, message).with_phase(Phase::Resolve);
            Self { error, may_change }
        };
        match (endpoints.is_empty(), disabled.len()) {
            _ if !answered && !stale => unresolved(format!("{url} has not answered a query for {service}"), true),
            (true, 0) => unresolved(format!("{url} lists no provider of {service} that answers"), false),
            (true, count) => unresolved(format!("all {count} providers of {service} are disabled in {url}"), false),
            (false, _) => Self::of_endpoints(&service.to_string(), endpoints, excluded),
        }
    }

    fn of_endpoints(callee: &str, endpoints: &[Arc<Endpoint>], excluded: &[ExcludedChannel]) -> Self {
        let mut may_change = false;
        // If every provider rejects the client's credentials, the code is `Unauthenticated` instead of `Unavailable`.
        let mut all_unauthenticated = !endpoints.is_empty();
        let mut reasons = Vec::new();
        for endpoint in endpoints {
            let (address, state) = (endpoint.address(), endpoint.state());
            // An endpoint may have become ready since the pick; its notification is pending, and the next pick finds
            // it. An unresponsive peer may only run a slow handler: it is ready again when its pong arrives.
            let ready = endpoint.eligible_channel().is_some_and(|channel| !is_excluded(&channel, excluded));
            may_change |= ready || matches!(state, EndpointState::Connecting) || endpoint.is_unresponsive();
            all_unauthenticated &= state.failure().is_some_and(|error| error.code() == Code::Unauthenticated);
            reasons.push(match excluded.iter().find(|excluded| excluded.channel.address() == address) {
                Some(excluded) => excluded.reason.to_string(),
                None => format!("{address}: {state}"),
            });
        }
        let code = if all_unauthenticated { Code::Unauthenticated } else { Code::Unavailable };
        let message = format!("no provider of {callee} accepts calls: {}", join_parts(&reasons));
        Self { error: Error::not_executed(code, message).with_phase(Phase::Connect), may_change }
    }
}
