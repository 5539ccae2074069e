//! [`warm_up`]: connecting to the providers of a service before its first call.

use rpc_core::{Error, ServiceId, deadline_after};
use tokio::time::{Instant, timeout_at};

use super::{error::client_closed, no_provider::explain, target::Target};
use crate::client_core::ClientCore;

/// Waits until no connect to a provider of `service` is in progress, or the client's timeout has passed.
///
/// # Errors
///
/// The reason why no provider accepts calls.
pub(crate) async fn warm_up(core: &ClientCore, service: &ServiceId) -> Result<(), Error> {
    let target = Target::resolve(core, service, None)?;
    let deadline = deadline_after(Instant::now(), core.config().timeout);
    let Target::Service(providers) = &target else { return Ok(()) };
    loop {
        // Created before the states are read and interrupted tasks are restarted, so that no later change is missed.
        let settled = providers.settled();
        core.resume();
        if core.pool().is_closed() {
            return Err(client_closed());
        }
        if providers.list().is_settled() || timeout_at(deadline, settled).await.is_err() {
            let is_ready = providers.list().is_ready();
            return if is_ready { Ok(()) } else { Err(explain(core, &target, None, &[])) };
        }
    }
}
