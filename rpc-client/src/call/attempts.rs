//! [`Attempts`]: the attempts of one call that are in flight.

use std::{sync::Arc, task};

use rpc_core::{Attempt, Error, Hedging};
use tokio::time::Instant;

use crate::connection::{
    channel::Channel,
    in_flight::{CallStatus, Outcome},
    sending::SentCall,
};

/// The attempts of one call that are in flight. A drop abandons them, and their peers receive CANCEL.
#[derive(Default)]
pub(super) struct Attempts {
    /// The attempt that was sent last, unless it ended.
    newest: Option<LiveAttempt>,
    /// The number of attempts sent so far.
    sent: usize,
    /// `None` in most calls.
    history: Option<Box<History>>,
}

/// The attempts of a call before its newest one.
#[derive(Default)]
struct History {
    /// Attempts that exceeded their hedge time and may still be answered.
    earlier: Vec<LiveAttempt>,
    /// The log of all attempts, for an explanation.
    log: Vec<Attempt>,
}

/// An attempt that was sent and has not ended.
pub(super) struct LiveAttempt {
    pub(super) channel: Arc<Channel>,
    pub(super) sent: SentCall,
    pub(super) sent_at: Instant,
    /// The index in the log, if there is a log.
    log_index: usize,
}

/// The result of a poll of the newest attempt.
pub(super) enum NewestStatus {
    /// There is no newest attempt, or it has no outcome.
    Pending,
    /// The hedge time of this attempt has passed.
    HedgeDue(LiveAttempt),
    Ended(LiveAttempt, Outcome),
}

impl Attempts {
    /// Returns the number of attempts sent so far.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Returns the log, which is empty unless the caller requested an explanation.
    pub(super) fn log(&self) -> &[Attempt] {
        self.history.as_ref().map_or(&[], |history| &history.log)
    }

    /// Returns the attempts that exceeded their hedge time and may still be answered.
    fn earlier(&self) -> &[LiveAttempt] {
        self.history.as_ref().map_or(&[], |history| &history.earlier)
    }

    /// Returns whether any attempt is in flight.
    pub(super) fn any_live(&self) -> bool {
        self.newest.is_some() || self.has_earlier()
    }

    /// Returns whether the attempt that was sent last is in flight.
    pub(super) fn newest_live(&self) -> bool {
        self.newest.is_some()
    }

    /// Returns whether an attempt is in flight that exceeded its hedge time.
    pub(super) fn has_earlier(&self) -> bool {
        !self.earlier().is_empty()
    }

    /// Returns the attempts that were sent before `sent_at`, when the answered attempt was sent, and are late.
    ///
    /// An attempt is late after the default hedge time, whatever the call's own hedge time is: with a short one, a
    /// faster provider overtakes healthy ones. `deadline` is that of the call.
    pub(super) fn overtaken(&self, sent_at: Instant, deadline: Instant) -> impl Iterator<Item = &LiveAttempt> {
        let now = Instant::now();
        let late_at = move |attempt: &LiveAttempt| {
            attempt.sent_at + Hedging::Third.delay(deadline.saturating_duration_since(attempt.sent_at))
        };
        let is_overtaken = move |attempt: &&LiveAttempt| attempt.sent_at < sent_at && late_at(attempt) <= now;
        self.earlier().iter().filter(is_overtaken)
    }

    /// Adds an attempt that was just sent.
    ///
    /// `started_at` is the start of the call if the attempt is to be logged.
    pub(super) fn add(&mut self, channel: Arc<Channel>, sent: SentCall, sent_at: Instant, started_at: Option<Instant>) {
        debug_assert!(self.newest.is_none(), "a hedge is sent only after its predecessor became an earlier attempt");
        if let Some(started_at) = started_at {
            let after = sent_at.saturating_duration_since(started_at);
            self.history.get_or_insert_default().log.push(Attempt::new(channel.address(), after));
        }
        let log_index = self.sent;
        self.newest = Some(LiveAttempt { channel, sent, sent_at, log_index });
        self.sent += 1;
    }

    /// Keeps an attempt that [`poll_newest`](Self::poll_newest) returned as the newest one.
    pub(super) fn keep_newest(&mut self, attempt: LiveAttempt) {
        self.newest = Some(attempt);
    }

    /// Keeps an attempt that [`poll_newest`](Self::poll_newest) returned; a hedge follows.
    pub(super) fn keep_earlier(&mut self, attempt: LiveAttempt) {
        self.history.get_or_insert_default().earlier.push(attempt);
    }

    /// Polls the newest attempt. Unless it is pending, it leaves the set.
    pub(super) fn poll_newest(&mut self, cx: &task::Context<'_>) -> NewestStatus {
        let Some(newest) = &self.newest else { return NewestStatus::Pending };
        let status = newest.channel.poll(newest.sent.id, cx.waker());
        if matches!(status, CallStatus::Pending) {
            return NewestStatus::Pending;
        }
        match (self.newest.take(), status) {
            (Some(attempt), CallStatus::HedgeDue) => NewestStatus::HedgeDue(attempt),
            (Some(attempt), CallStatus::Ended(outcome)) => NewestStatus::Ended(attempt, outcome),
            (None, _) | (_, CallStatus::Pending) => NewestStatus::Pending,
        }
    }

    /// Polls the earlier attempts from `*index` on, and removes and returns the first that ended.
    pub(super) fn poll_earlier(&mut self, index: &mut usize, cx: &task::Context<'_>) -> Option<(LiveAttempt, Outcome)> {
        let earlier = &mut self.history.as_mut()?.earlier;
        while let Some(attempt) = earlier.get(*index) {
            if let CallStatus::Ended(outcome) = attempt.channel.poll(attempt.sent.id, cx.waker()) {
                return Some((earlier.swap_remove(*index), outcome));
            }
            *index += 1;
        }
        None
    }

    /// Logs the end of an attempt of a call that started at `started_at`.
    pub(super) fn log_end(&mut self, attempt: &LiveAttempt, started_at: Instant, error: Option<&Error>) {
        let Some(history) = &mut self.history else { return };
        if let Some(logged) = history.log.get_mut(attempt.log_index) {
            logged.ended = Some(started_at.elapsed());
            logged.error = error.map(ToString::to_string);
        }
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        for attempt in self.newest.iter().chain(self.earlier()) {
            attempt.channel.abandon(attempt.sent.id);
        }
    }
}
