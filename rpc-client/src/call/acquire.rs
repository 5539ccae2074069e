//! [`acquire`]: waiting for a provider that accepts calls.

use std::sync::Arc;

use rpc_core::{CallOptions, Error};
use tokio::{
    sync::futures::Notified,
    time::{Instant, timeout_at},
};

use super::{
    acquired::Acquired,
    error::client_closed,
    no_provider::{explain, may_change},
    pick::{ExcludedChannel, pick},
    target::Target,
};
use crate::{client_core::ClientCore, discovery::balance::Balance};

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
    balance: Balance,
    excluded: Vec<ExcludedChannel>,
    deadline: Instant,
) -> Result<Acquired, Error> {
    let wait_for_ready = options.wait_for_ready.unwrap_or(core.config().wait_for_ready);
    let mut has_requested = false;
    loop {
        let named;
        // Created before the states are read and interrupted tasks are restarted, so that no later change is missed.
        let changed = match &target {
            Target::Service(providers) => {
                next_change(providers.ready(), (!wait_for_ready).then(|| providers.exhausted()))
            }
            Target::Address(address) => {
                named = core.pool().get_or_insert(*address);
                next_change(named.changes().next(), None)
            }
        };
        core.resume();
        if core.pool().is_closed() {
            return Err(client_closed());
        }
        // No notification reports the end of a cooldown, so a timer does. Read before the pick: the pick notices a
        // cooldown that ends in between, and a notification reports one that starts in between.
        let cooldown = target.cooldown_until(&core);
        if let Some(channel) = pick(&core, &target, &options, balance, &excluded, &[]) {
            return Ok(Acquired::at_once(channel));
        }
        // The connects that another call has requested and that have not begun serve this call too.
        has_requested = has_requested || is_connect_requested(&target);
        let may_change = cooldown.is_some() || may_change(&core, &target, &excluded);
        let requests = !may_change && !std::mem::replace(&mut has_requested, true) && request_connects(&core, &target);
        if !(wait_for_ready || may_change || requests) {
            return Err(explain(&core, &target, options.tag.as_deref(), &excluded));
        }
        let wake_at = cooldown.map_or(deadline, |end| end.min(deadline));
        if timeout_at(wake_at, changed).await.is_err() && wake_at == deadline {
            return Err(explain(&core, &target, options.tag.as_deref(), &excluded));
        }
    }
}

/// Requests connects to providers that wait for their backoff: the fault that they had may be over.
///
/// A call after an outage therefore succeeds, however long the backoffs have become. Returns whether any was requested.
fn request_connects(core: &ClientCore, target: &Target) -> bool {
    match target {
        Target::Service(providers) => {
            let list = providers.list();
            !list.endpoints.is_empty() && list.request_connects(core.rng().index(list.endpoints.len()))
        }
        Target::Address(_) => false,
    }
}

/// Returns whether a call has requested a connect that has not begun.
fn is_connect_requested(target: &Target) -> bool {
    matches!(target, Target::Service(providers) if providers.list().is_connect_requested())
}

/// Waits for a change that may end the wait of a call.
///
/// A call that fails unless a provider is ready also waits for the time at which none can become ready soon.
async fn next_change(ready: Notified<'_>, exhausted: Option<Notified<'_>>) {
    let Some(exhausted) = exhausted else { return ready.await };
    // Cancel-safe: the caller reads the states again.
    tokio::select! {
        biased;
        () = ready => {}
        () = exhausted => {}
    }
}
