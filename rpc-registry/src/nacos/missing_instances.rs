//! [`MissingInstances`]: the instances that have left a list, and their states.
//!
//! No I/O: the caller passes in lists and states, and executes the returned queries.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use rpc_core::Instance;
use tokio::time::Instant;

use super::catalog::States;

/// The maximum delay of the first query.
///
/// Consumers choose it at random, so that they do not query at the same time.
pub(super) const MAX_QUERY_DELAY: Duration = Duration::from_secs(1);
/// The time between two queries for an instance whose state is unknown.
const INTERVAL: Duration = Duration::from_secs(3);
/// The time between two queries for disabled instances.
const DISABLED_INTERVAL: Duration = Duration::from_secs(30);
/// The number of queries without a definite state after which an instance is dropped.
const MAX_QUERIES: u32 = 5;
/// The maximum number of missing instances; further ones are dropped at once.
const MAX_INSTANCES: usize = 1024;

/// The current list of one service, and the instances that have left it.
#[derive(Default)]
pub(super) struct MissingInstances {
    listed: Vec<Instance>,
    missing: BTreeMap<SocketAddr, MissingInstance>,
    last_query: Option<Instant>,
    next_query: Option<Instant>,
}

struct MissingInstance {
    instance: Instance,
    disabled: bool,
    /// The query in flight includes this instance.
    queried: bool,
    /// The number of queries without a definite state.
    queries: u32,
}

impl MissingInstances {
    /// Handles a new list, sorted by address.
    ///
    /// Schedules a query for the instances that have left it: at `at`, or later if the last query was sent shortly
    /// before.
    pub(super) fn handle_list(&mut self, at: Instant, listed: Vec<Instance>) {
        let addresses: BTreeSet<_> = listed.iter().map(Instance::address).collect();
        self.missing.retain(|address, _| !addresses.contains(address));
        for instance in std::mem::replace(&mut self.listed, listed) {
            let address = instance.address();
            if !addresses.contains(&address) && self.missing.len() < MAX_INSTANCES {
                self.missing.insert(address, MissingInstance { instance, disabled: false, queried: false, queries: 0 });
                let at = self.last_query.map_or(at, |last| at.max(last + INTERVAL));
                self.next_query = Some(self.next_query.map_or(at, |next| next.min(at)));
            }
        }
    }

    /// Returns the instances to query at `now`. The caller passes their states to
    /// [`handle_states`](Self::handle_states); otherwise the query becomes due again.
    pub(super) fn poll_query(&mut self, now: Instant) -> Option<BTreeSet<SocketAddr>> {
        if self.next_query()? > now {
            return None;
        }
        (self.last_query, self.next_query) = (Some(now), Some(now + INTERVAL));
        self.missing.values_mut().for_each(|missing| missing.queried = true);
        Some(self.missing.keys().copied().collect())
    }

    /// Returns when [`poll_query`](Self::poll_query) has the next query, if nothing else happens.
    pub(super) fn next_query(&self) -> Option<Instant> {
        self.next_query.filter(|_| !self.missing.is_empty())
    }

    /// Handles the states of the queried instances; `None` if the query failed.
    pub(super) fn handle_states(&mut self, now: Instant, states: Option<&States>) {
        self.missing.retain(|address, missing| {
            // An instance that left the list after the query was sent is included in the next query.
            if !std::mem::take(&mut missing.queried) {
                return true;
            }
            match states.map(|states| states.get(address)) {
                Some(None) => return false,
                Some(Some(false)) => missing.disabled = true,
                // An enabled instance is either listed soon, or hidden for another reason.
                Some(Some(true)) | None => missing.queries += 1,
            }
            // Only a list enables an instance again.
            missing.disabled || missing.queries < MAX_QUERIES
        });
        let settled = self.missing.values().all(|missing| missing.disabled);
        self.next_query = Some(now + if settled { DISABLED_INTERVAL } else { INTERVAL });
    }

    /// Returns the list including the disabled instances, sorted by address.
    pub(super) fn instances(&self) -> Vec<Instance> {
        let disabled = self.missing.values().filter(|missing| missing.disabled);
        let disabled = disabled.map(|missing| missing.instance.clone().with_enabled(false));
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

    /// Returns a state in which instance 2 of 1 and 2 has left the list.
    fn one_missing() -> (MissingInstances, Instant) {
        let (mut missing, now) = (MissingInstances::default(), Instant::now());
        missing.handle_list(now, instances([1, 2]));
        assert_eq!(missing.next_query(), None);
        let query_at = now + MAX_QUERY_DELAY;
        missing.handle_list(query_at, instances([1]));
        assert_eq!((missing.poll_query(now), missing.next_query()), (None, Some(query_at)));
        let now = query_at;
        assert_eq!(missing.poll_query(now), Some(BTreeSet::from([instance(2).address()])));
        assert_eq!(missing.instances(), instances([1]));
        (missing, now)
    }

    #[test]
    fn disabled_instance_stays_until_it_is_listed() {
        let (mut missing, now) = one_missing();
        missing.handle_states(now, Some(&states([(2, false)])));
        let with_disabled = [instance(1), instance(2).with_enabled(false)];
        assert_eq!(missing.instances(), with_disabled);

        // It stays disabled during an outage, and after an answer that is newer than the list.
        assert_eq!(missing.next_query(), Some(now + DISABLED_INTERVAL));
        let mut now = now;
        for _ in 0..=MAX_QUERIES {
            for answer in [None, Some(&states([(2, true)]))] {
                now += DISABLED_INTERVAL;
                assert!(missing.poll_query(now).is_some());
                missing.handle_states(now, answer);
            }
        }
        missing.handle_list(now, Vec::new());
        assert_eq!(missing.instances(), with_disabled[1..]);
        missing.handle_list(now, instances([1, 2]));
        assert_eq!(missing.instances(), instances([1, 2]));
        assert_eq!(missing.next_query(), None);
    }

    #[test]
    fn nonexistent_instance_is_dropped() {
        let (mut missing, now) = one_missing();
        missing.handle_states(now, Some(&states([(1, true)])));
        assert_eq!((missing.instances(), missing.next_query()), (instances([1]), None));
        // The same applies to a disabled instance.
        let (mut missing, now) = one_missing();
        missing.handle_states(now, Some(&states([(2, false)])));
        let now = now + DISABLED_INTERVAL;
        assert!(missing.poll_query(now).is_some());
        missing.handle_states(now, Some(&states([])));
        assert_eq!((missing.instances(), missing.next_query()), (instances([1]), None));
    }

    #[test]
    fn answer_is_ignored_for_instances_missing_later() {
        let (mut missing, now) = one_missing();
        missing.handle_list(now, Vec::new());
        missing.handle_states(now, Some(&states([(2, false)])));
        assert_eq!(missing.instances(), [instance(2).with_enabled(false)]);
        let both = BTreeSet::from([instance(1).address(), instance(2).address()]);
        assert_eq!(missing.poll_query(now + INTERVAL), Some(both));
    }

    #[test]
    fn unanswered_query_is_due_again() {
        let (mut missing, now) = one_missing();
        assert_eq!(missing.poll_query(now), None);
        assert!(missing.poll_query(now + INTERVAL).is_some());
    }

    #[test]
    fn unanswered_queries_end() {
        let (mut missing, mut now) = one_missing();
        for _ in 1..MAX_QUERIES {
            missing.handle_states(now, None);
            now += INTERVAL;
            assert_eq!(missing.poll_query(now - Duration::from_millis(1)), None);
            assert!(missing.poll_query(now).is_some());
        }
        missing.handle_states(now, None);
        assert_eq!((missing.instances(), missing.next_query()), (instances([1]), None));
    }

    #[test]
    fn missing_instances_are_bounded() {
        let (mut missing, now) = (MissingInstances::default(), Instant::now());
        let count = u16::try_from(MAX_INSTANCES).unwrap() + 1;
        missing.handle_list(now, (1..=count).map(instance).collect());
        missing.handle_list(now, Vec::new());
        assert_eq!(missing.poll_query(now).unwrap().len(), MAX_INSTANCES);
    }
}
