//! [`Target`]: the service or the address that a call is for.

use std::{net::SocketAddr, sync::Arc};

use rpc_core::{Candidate, Code, Error, Explanation, Phase, ServiceId};
use tokio::time::Instant;

use super::error::client_closed;
use crate::{client_core::ClientCore, discovery::providers::ServiceProviders, endpoint::Endpoint};

/// The service or the address that a call is for.
#[derive(Clone)]
pub(crate) enum Target {
    /// Any provider of a service.
    Service(Arc<ServiceProviders>),
    /// One address.
    Address(SocketAddr),
}

impl Target {
    /// Returns the target of a call, and starts to follow its service if it names no address.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the client is closed; `FailedPrecondition` when it has no registry and the call names no
    /// address.
    pub(crate) fn resolve(core: &ClientCore, service: &ServiceId, address: Option<SocketAddr>) -> Result<Self, Error> {
        if core.pool().is_closed() {
            return Err(client_closed());
        }
        core.resume();
        if let Some(address) = address {
            return Ok(Self::Address(address));
        }
        if let Some(providers) = core.services().find(service) {
            return Ok(Self::Service(providers));
        }
        // `Client::close` may have removed the service after the first check.
        if core.pool().is_closed() {
            return Err(client_closed());
        }
        let providers = core.services().follow(service, core.pool()).ok_or_else(|| {
            Error::not_executed(Code::FailedPrecondition, "client has no registry and the call names no address")
                .with_phase(Phase::Resolve)
        })?;
        Ok(Self::Service(providers))
    }

    /// Returns the endpoints that the call may use.
    fn endpoints(&self, core: &ClientCore) -> Vec<Arc<Endpoint>> {
        match self {
            Self::Address(address) => vec![core.pool().get_or_insert(*address)],
            Self::Service(providers) => providers.list().endpoints.clone(),
        }
    }

    /// Returns when the first cooldown of an endpoint ends.
    pub(super) fn cooldown_until(&self, core: &ClientCore) -> Option<Instant> {
        match self {
            Self::Address(address) => core.pool().get_or_insert(*address).cooldown_until(),
            Self::Service(providers) => providers.list().cooldown_until(),
        }
    }

    /// Returns the candidates of the call and their states.
    pub(crate) fn explain(&self, core: &ClientCore) -> Explanation {
        let mut explanation = Explanation::default();
        let candidate = |endpoint: &Arc<Endpoint>| Candidate::new(endpoint.address(), endpoint.state().to_string());
        explanation.candidates = self.endpoints(core).iter().map(candidate).collect();
        if let Self::Service(providers) = self {
            explanation.route = providers.service().to_string();
            explanation.registry = core.services().registry_url().to_owned();
            let list = providers.list();
            explanation.stale = list.stale;
            let disabled = list.disabled.iter().map(|address| Candidate::new(*address, DISABLED.to_owned()));
            explanation.candidates.extend(disabled);
        }
        explanation
    }
}

/// The state of a provider that an operator has disabled.
const DISABLED: &str = "disabled in the registry";
