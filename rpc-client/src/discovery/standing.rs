//! [`Standing`]: how a client regards a provider in the choice of its subset.

use std::time::Duration;

use tokio::time::Instant;

use crate::endpoint::Endpoint;

/// How a client regards a provider in the choice of its subset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has worked for [`PROVEN_AFTER`].
    Working,
    /// The client does not know yet whether it works, or it failed a moment ago.
    New,
    /// It has not worked for [`REPLACED_AFTER`].
    Failing,
    /// Its contract is incompatible with that of this client.
    Incompatible,
}

/// The observations that determine the [`Standing`] of a provider.
#[derive(Debug, Default)]
pub(super) struct StandingRecord {
    /// Since when the provider works.
    working_since: Option<Instant>,
    /// Since when it does not, unless the client has just begun to connect.
    failing_since: Option<Instant>,
    /// Until when the client regards it as incompatible.
    incompatible_until: Option<Instant>,
}

impl StandingRecord {
    /// Records that the provider's contract is incompatible.
    pub(super) fn set_incompatible(&mut self, now: Instant) {
        self.incompatible_until = Some(now + INCOMPATIBLE_FOR);
    }

    /// Records that the provider has registered again, maybe with another contract.
    pub(super) fn forget_incompatibility(&mut self) {
        self.incompatible_until = None;
    }

    /// Returns whether the provider's contract is known as incompatible.
    pub(super) fn is_incompatible(&self, now: Instant) -> bool {
        self.incompatible_until.is_some_and(|until| now < until)
    }

    /// Returns the standing of a provider to which the client does not connect.
    pub(super) fn observe_none(&mut self, now: Instant) -> Standing {
        (self.working_since, self.failing_since) = (None, None);
        if self.is_incompatible(now) { Standing::Incompatible } else { Standing::New }
    }

    /// Returns the standing of a provider to which too many connects have failed.
    pub(super) fn observe_evicted(&mut self, now: Instant) -> Standing {
        self.working_since = None;
        self.failing_since.get_or_insert(now);
        Standing::Failing
    }

    /// Returns the standing of a provider by the state of its endpoint.
    pub(super) fn observe(&mut self, endpoint: &Endpoint, now: Instant) -> Standing {
        let works = endpoint.is_eligible() && !endpoint.ejection().is_active();
        self.update(works, endpoint.is_pending(), now)
    }

    fn update(&mut self, works: bool, is_pending: bool, now: Instant) -> Standing {
        let lasts = |since: Instant, time| now.saturating_duration_since(since) >= time;
        if works {
            self.failing_since = None;
            let since = *self.working_since.get_or_insert(now);
            return match lasts(since, PROVEN_AFTER) {
                _ if self.is_incompatible(now) => Standing::Incompatible,
                true => Standing::Working,
                false => Standing::New,
            };
        }
        self.working_since = None;
        // The first connect is not a failure. The connects between two backoffs are part of one.
        if !is_pending {
            self.failing_since.get_or_insert(now);
        }
        let is_failing = self.failing_since.is_some_and(|since| lasts(since, REPLACED_AFTER));
        if is_failing { Standing::Failing } else { Standing::New }
    }

    /// Returns when the passage of time alone may change the standing.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let proven = self.working_since.map(|since| since + PROVEN_AFTER);
        let replaced = self.failing_since.map(|since| since + REPLACED_AFTER);
        [proven, replaced, self.incompatible_until].into_iter().flatten().filter(|at| *at > now).min()
    }
}

/// The time after which another provider replaces one that does not work.
const REPLACED_AFTER: Duration = Duration::from_secs(1);
/// The time for which a provider must work until the one that has replaced it leaves the subset.
const PROVEN_AFTER: Duration = Duration::from_secs(30);
/// The time for which a provider counts as incompatible after a call has found its contract so.
const INCOMPATIBLE_FOR: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_failures_replace_no_member() {
        let (mut record, start) = (StandingRecord::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(record.update(false, true, at(0)), Standing::New, "it connects");
        assert_eq!(record.update(true, false, at(10)), Standing::New);
        assert_eq!(record.next_change(at(10)), Some(at(30_010)));
        assert_eq!(record.update(true, false, at(30_010)), Standing::Working);
        assert_eq!(record.update(false, false, at(40_000)), Standing::New, "it has just failed");
        assert_eq!(record.next_change(at(40_000)), Some(at(41_000)));
        assert_eq!(record.update(true, false, at(40_500)), Standing::New, "it works again");
        assert_eq!(record.update(false, false, at(50_000)), Standing::New);
        assert_eq!(record.update(false, true, at(50_999)), Standing::New);
        assert_eq!(record.update(false, true, at(51_000)), Standing::Failing, "the client connects again");
        assert_eq!(record.update(true, false, at(52_000)), Standing::New);
        assert_eq!(record.update(true, false, at(81_999)), Standing::New);
        assert_eq!(record.update(true, false, at(82_000)), Standing::Working);
    }

    #[test]
    fn incompatibility_is_forgotten() {
        let (mut record, start) = (StandingRecord::default(), Instant::now());
        record.update(true, false, start);
        record.set_incompatible(start);
        let later = start + INCOMPATIBLE_FOR;
        let before = later - Duration::from_nanos(1);
        assert_eq!(record.update(true, false, before), Standing::Incompatible);
        assert_eq!(record.next_change(before), Some(later));
        assert_eq!(record.update(true, false, later), Standing::Working);
        record.set_incompatible(later);
        assert_eq!(record.observe_none(later), Standing::Incompatible, "the client does not connect to it again");
    }
}
