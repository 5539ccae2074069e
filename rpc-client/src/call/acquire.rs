//! [`acquire`]: waiting for a provider that accepts calls.

use std::sync::Arc;

use rpc_core::{CallOptions, Error};
use tokio::time::{Instant, timeout_at};

use super::{
    acquired::Acquired,
    error::client_closed,
    no_provider::NoProvider,
    pick::{ExcludedChannel, pick},
    target::Target,
};
use crate::client_core::ClientCore;

/// Waits for a channel that is eligible for calls.
///
/// # Errors
///
/// The reason why no provider accepts calls, when no pending event can change that or when the deadline passes. With
/// `wait_for_ready` only the deadline ends the wait.
pub(super) async fn acquire(
    core: Arc<ClientCore>,
    target: Target,
    options: CallOptions,
    excluded: Vec<ExcludedChannel>,
    deadline: Instant,
) -> Result<Acquired, Error> {
    let wait_for_ready = options.wait_for_ready.unwrap_or(core.config().wait_for_ready);
    loop {
        // Created before the states are read, so that a change after the read is not missed.
        let changed = next_change(&core, &target);
        if core.pool().is_closed() {
            return Err(client_closed());
        }
        // No notification reports the end of a cooldown, so a timer does. Read before the pick: the pick notices a
        // cooldown that ends in between, and a notification reports one that starts in between.
        let cooldown = target.endpoints(&core).iter().filter_map(|endpoint| endpoint.cooldown_until()).min();
        if let Some(channel) = pick(&core, &target, &options, &excluded, &[]) {
            return Ok(Acquired { channel, turn: None });
        }
        let NoProvider { error, may_change } = NoProvider::survey(&core, &target, &excluded);
        if !(may_change || wait_for_ready || cooldown.is_some()) {
            return Err(error);
        }
        let wake_at = cooldown.map_or(deadline, |end| end.min(deadline));
        if timeout_at(wake_at, changed).await.is_err() && wake_at == deadline {
            return Err(error);
        }
    }
}

/// Returns a future that resolves with the first change after this call that may provide a channel.
fn next_change<'a>(core: &'a ClientCore, target: &'a Target) -> impl Future<Output = ()> + 'a {
    let endpoint = core.pool().changes().next();
    let list = match target {
        Target::Service(providers) => Some(providers.next()),
        Target::Address(_) => None,
    };
    async move {
        let Some(list) = list else { return endpoint.await };
        // Cancel-safe: the caller reads the states again.
        tokio::select! {
            biased;
            () = list => {}
            () = endpoint => {}
        }
    }
}
