//! [`Target`]: the service or the address that a call is for.

use std::{net::SocketAddr, sync::Arc};

use rpc_core::{Candidate, Code, Error, Explanation, Phase, ServiceId};
use tokio::time::Instant;

use super::error::client_closed;
use crate::{client_core::ClientCore, discovery::providers::ServiceProviders};

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

    /// Returns when the first cooldown of an endpoint ends.
    pub(super) fn cooldown_until(&self, core: &ClientCore) -> Option<Instant> {
        match self {
            Self::Address(address) => core.pool().get_or_insert(*address).cooldown_until(),
            Self::Service(providers) => providers.list().cooldown_until(),
        }
    }

    /// Returns the candidates of the call and their states.
    pub(crate) fn explain(&self, core: &ClientCore, tag: Option<&str>) -> Explanation {
        let mut explanation = Explanation::default();
        let providers = match self {
            Self::Address(address) => {
                let endpoint = core.pool().get_or_insert(*address);
                explanation.candidates.push(Candidate::new(*address, endpoint.state().to_string()));
                return explanation;
            }
            Self::Service(providers) => providers,
        };
        explanation.route = providers.service().to_string();
        explanation.registry = core.services().registry_url().to_owned();
        let list = providers.list();
        explanation.stale = list.stale;
        let called = list.endpoints.iter().enumerate();
        let called = called.map(|(index, one)| Candidate::new(one.address(), list.describe(index, tag)));
        let outside = list.outside.iter().map(|address| Candidate::new(*address, OUTSIDE));
        let weightless = list.weightless.iter().map(|address| Candidate::new(*address, WEIGHTLESS));
        let disabled = list.disabled.iter().map(|address| Candidate::new(*address, DISABLED));
        explanation.candidates = called.chain(outside).chain(weightless).chain(disabled).collect();
        explanation
    }
}

/// The state of a provider of weight 0, while another one has a weight.
pub(super) const WEIGHTLESS: &str = "weight 0 in the registry";
/// The state of a provider to which the client does not connect.
const OUTSIDE: &str = "outside the subset of this client (ClientConfig::subset)";
/// The state of a provider that an operator has disabled.
const DISABLED: &str = "disabled in the registry";
