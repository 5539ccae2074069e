//! [`Extras`]: the parts of a call that most calls do not have.

use std::sync::Arc;

use rpc_core::Error;

use super::{capacity::FullChannel, pick::ExcludedChannel, streams::AttemptStreams, target::Target};
use crate::rules::rule::{Rule, RunningCall};

/// The parts of a call that most calls do not have: it is sent once, to the first channel that it picks.
///
/// They are behind a pointer, because every call is moved several times before it is sent.
#[derive(Default)]
pub(super) struct Extras {
    /// The rule that applies.
    pub(super) rule: Option<Arc<Rule>>,
    /// Counts against the limit of the rule.
    pub(super) running: Option<RunningCall>,
    /// The target, unless the first pick succeeded without it.
    pub(super) target: Option<Target>,
    /// The key of all attempts of a `once` call.
    pub(super) idempotency_key: Option<[u8; 16]>,
    pub(super) excluded: Vec<ExcludedChannel>,
    /// The channels that rejected the call because of a limit since the last wait.
    pub(super) full: Vec<FullChannel>,
    /// The error of the attempt that failed last.
    pub(super) last_error: Option<Error>,
    /// The streams of the attempt in flight.
    pub(super) streams: Option<AttemptStreams>,
}
