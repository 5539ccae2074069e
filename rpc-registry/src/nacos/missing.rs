//! [`Missing`]: instances that have left a list, and which of them an operator has disabled. No I/O: lists and states come in, questions go
//! out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use rpc_core::Instance;
use tokio::time::Instant;

use super::catalog::States;

/// The longest that the first question waits. Consumers wait different times, so that they do not all ask at once.
pub(super) const SPREAD: Duration = Duration::from_secs(1);
/// The time between two questions about an instance whose state is not known.
const INTERVAL: Duration = Duration::from_secs(3);
/// How often the instances are asked for that are known to be disabled.
const DISABLED_INTERVAL: Duration = Duration::from_secs(30);
/// After how many questions without a clear answer an instance counts as gone.
const MAX_QUESTIONS: u32 = 5;
/// The most instances that are kept in mind; further ones count as gone.
const MAX_INSTANCES: usize = 1024;

/// The instances of one service that have left its list.
#[derive(Default)]
pub(super) struct Missing {
    listed: Vec<Instance>,
    missing: BTreeMap<SocketAddr, Entry>,
    last_question: Option<Instant>,
    next_question: Option<Instant>,
}

struct Entry {
    instance: Instance,
    disabled: bool,
    /// The question under way is about it too.
    asked: bool,
    questions: u32,
}

impl Missing {
    /// Takes a new list, in order of the addresses. Instances that have left it are asked for at `at`, or later if a question was asked
    /// shortly before.
    pub(super) fn handle_list(&mut self, at: Instant, listed: Vec<Instance>) {
        let addresses: BTreeSet<_> = listed.iter().map(Instance::address).collect();
        self.missing.retain(|address, _| !addresses.contains(address));
        for instance in std::mem::replace(&mut self.listed, listed) {
            let address = instance.address();
            if !addresses.contains(&address) && self.missing.len() < MAX_INSTANCES {
                self.missing.insert(address, Entry { instance, disabled: false, asked: false, questions: 0 });
                let at = self.last_question.map_or(at, |last| at.max(last + INTERVAL));
                self.next_question = Some(self.next_question.map_or(at, |next| next.min(at)));
            }
        }
    }

    /// The instances to ask for at `now`. Their states come back through [`handle_states`](Self::handle_states). If they do not, the question
    /// is due again.
    pub(super) fn poll_question(&mut self, now: Instant) -> Option<BTreeSet<SocketAddr>> {
        if self.next_question()? > now {
            return None;
        }
        (self.last_question, self.next_question) = (Some(now), Some(now + INTERVAL));
        self.missing.values_mut().for_each(|entry| entry.asked = true);
        Some(self.missing.keys().copied().collect())
    }

    /// When [`poll_question`](Self::poll_question) has something to ask, if nothing else happens.
    pub(super) fn next_question(&self) -> Option<Instant> {
        self.next_question.filter(|_| !self.missing.is_empty())
    }

    /// Takes the states of the instances that were asked for; `None` when nobody could say.
    pub(super) fn handle_states(&mut self, now: Instant, states: Option<&States>) {
        self.missing.retain(|address, entry| {
            // One that has left the list since the question is asked for next time.
            if !std::mem::take(&mut entry.asked) {
                return true;
            }
            match states.map(|states| states.get(address)) {
                Some(None) => return false,
                Some(Some(false)) => entry.disabled = true,
                // It is enabled, so it is listed soon, or something else hides it.
                Some(Some(true)) | None => entry.questions += 1,
            }
            // Nothing but a list enables an instance again.
            entry.disabled || entry.questions < MAX_QUESTIONS
        });
        let settled = self.missing.values().all(|entry| entry.disabled);
        self.next_question = Some(now + if settled { DISABLED_INTERVAL } else { INTERVAL });
    }

    /// The list with the instances that an operator has disabled, in order of the addresses.
    pub(super) fn instances(&self) -> Vec<Instance> {
        let disabled = self.missing.values().filter(|entry| entry.disabled);
        let disabled = disabled.map(|entry| entry.instance.clone().with_enabled(false));
        let mut instances: Vec<_> = self.listed.iter().cloned().chain(disabled).collect();
        instances.sort_by_key(Instance::address);
        instances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(port: u16) -> Instance {
        Instance::new(([10, 0, 0, 1], port).into())
    }

    fn instances<const N: usize>(ports: [u16; N]) -> Vec<Instance> {
        ports.map(instance).into()
    }

    fn states<const N: usize>(of: [(u16, bool); N]) -> States {
        of.map(|(port, enabled)| (instance(port).address(), enabled)).into()
    }

    /// Instance 2 of 1 and 2 has left the list.
    fn one_missing() -> (Missing, Instant) {
        let (mut missing, now) = (Missing::default(), Instant::now());
        missing.handle_list(now, instances([1, 2]));
        assert_eq!(missing.next_question(), None);
        let asked = now + SPREAD;
        missing.handle_list(asked, instances([1]));
        assert_eq!((missing.poll_question(now), missing.next_question()), (None, Some(asked)));
        let now = asked;
        assert_eq!(missing.poll_question(now), Some(BTreeSet::from([instance(2).address()])));
        assert_eq!(missing.instances(), instances([1]));
        (missing, now)
    }

    #[test]
    fn a_disabled_instance_stays_disabled_until_it_is_listed() {
        let (mut missing, now) = one_missing();
        missing.handle_states(now, Some(&states([(2, false)])));
        let with_disabled = [instance(1), instance(2).with_enabled(false)];
        assert_eq!(missing.instances(), with_disabled);

        // Through an outage, and an answer that is ahead of the list.
        assert_eq!(missing.next_question(), Some(now + DISABLED_INTERVAL));
        let mut now = now;
        for _ in 0..=MAX_QUESTIONS {
            for answer in [None, Some(&states([(2, true)]))] {
                now += DISABLED_INTERVAL;
                assert!(missing.poll_question(now).is_some());
                missing.handle_states(now, answer);
            }
        }
        missing.handle_list(now, Vec::new());
        assert_eq!(missing.instances(), with_disabled[1..]);
        missing.handle_list(now, instances([1, 2]));
        assert_eq!(missing.instances(), instances([1, 2]));
        assert_eq!(missing.next_question(), None);
    }

    #[test]
    fn an_instance_that_does_not_exist_is_gone() {
        let (mut missing, now) = one_missing();
        missing.handle_states(now, Some(&states([(1, true)])));
        assert_eq!((missing.instances(), missing.next_question()), (instances([1]), None));
        // Also after it was disabled.
        let (mut missing, now) = one_missing();
        missing.handle_states(now, Some(&states([(2, false)])));
        let now = now + DISABLED_INTERVAL;
        assert!(missing.poll_question(now).is_some());
        missing.handle_states(now, Some(&states([])));
        assert_eq!((missing.instances(), missing.next_question()), (instances([1]), None));
    }

    #[test]
    fn answer_does_not_count_for_instances_that_left_after_the_question() {
        let (mut missing, now) = one_missing();
        missing.handle_list(now, Vec::new());
        missing.handle_states(now, Some(&states([(2, false)])));
        assert_eq!(missing.instances(), [instance(2).with_enabled(false)]);
        let both = BTreeSet::from([instance(1).address(), instance(2).address()]);
        assert_eq!(missing.poll_question(now + INTERVAL), Some(both));
    }

    #[test]
    fn question_without_an_answer_is_due_again() {
        let (mut missing, now) = one_missing();
        assert_eq!(missing.poll_question(now), None);
        assert!(missing.poll_question(now + INTERVAL).is_some());
    }

    #[test]
    fn questions_without_an_answer_end() {
        let (mut missing, mut now) = one_missing();
        for _ in 1..MAX_QUESTIONS {
            missing.handle_states(now, None);
            now += INTERVAL;
            assert_eq!(missing.poll_question(now - Duration::from_millis(1)), None);
            assert!(missing.poll_question(now).is_some());
        }
        missing.handle_states(now, None);
        assert_eq!((missing.instances(), missing.next_question()), (instances([1]), None));
    }

    #[test]
    fn missing_instances_are_bounded() {
        let (mut missing, now) = (Missing::default(), Instant::now());
        let count = u16::try_from(MAX_INSTANCES).unwrap() + 1;
        missing.handle_list(now, (1..=count).map(instance).collect());
        missing.handle_list(now, Vec::new());
        assert_eq!(missing.poll_question(now).unwrap().len(), MAX_INSTANCES);
    }
}
