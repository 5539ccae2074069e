//! The pick of a channel for an attempt.

use std::sync::Arc;

use rpc_core::{CallOptions, ServiceId};

use super::{capacity::FullChannel, target::Target};
use crate::{
    client_core::ClientCore,
    connection::channel::Channel,
    discovery::{balance::Balance, providers::Selection},
};

/// A channel that a call does not pick again: an attempt on it failed or exceeded its hedge time.
///
/// A new connection to the same address may be picked. A channel whose peer requested a cooldown is not excluded.
#[derive(Debug, Clone)]
pub(super) struct ExcludedChannel {
    pub(super) channel: Arc<Channel>,
    /// How the attempt failed.
    pub(super) reason: Arc<str>,
}

/// Picks a channel for the first attempt, or returns `None` if the call needs the full [`pick`].
///
/// It serves calls to a followed service, which are most calls, and increments no reference count that other threads
/// share except the channel's.
pub(super) fn pick_first(
    core: &ClientCore,
    service: &'static ServiceId,
    options: &CallOptions,
    balance: Balance,
) -> Option<Arc<Channel>> {
    let needs_target = options.address.is_some() || options.explain;
    if needs_target || !core.pool().lifecycle().is_running() {
        return None;
    }
    let selection = selection(core, options, balance);
    core.services().with(service, |providers| providers.pick(selection, core.rng(), |_| true))?
}

/// Picks a channel that is eligible for calls and neither excluded nor full.
pub(super) fn pick(
    core: &ClientCore,
    target: &Target,
    options: &CallOptions,
    balance: Balance,
    excluded: &[ExcludedChannel],
    full: &[FullChannel],
) -> Option<Arc<Channel>> {
    let usable = |channel: &Arc<Channel>| {
        !is_excluded(channel, excluded) && full.iter().all(|full| !Arc::ptr_eq(&full.channel, channel))
    };
    match target {
        Target::Service(providers) => providers.pick(selection(core, options, balance), core.rng(), usable),
        Target::Address(address) => core.pool().get_or_insert(*address).eligible_channel().filter(usable),
    }
}

/// Returns the choice that the options of a call request.
fn selection<'a>(core: &'a ClientCore, options: &'a CallOptions, balance: Balance) -> Selection<'a> {
    Selection {
        balance,
        balancer: core.config().balancer.as_deref(),
        affinity: options.affinity,
        tag: options.tag.as_deref(),
        forces_tag: options.forces_tag,
    }
}

pub(super) fn is_excluded(channel: &Arc<Channel>, excluded: &[ExcludedChannel]) -> bool {
    excluded.iter().any(|excluded| Arc::ptr_eq(&excluded.channel, channel))
}
