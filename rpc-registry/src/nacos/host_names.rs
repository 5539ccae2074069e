//! [`HostNames`]: the addresses of instances that are registered with a host name.
//!
//! No I/O: the caller passes in names and addresses, and executes the returned lookups.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use tokio::time::Instant;

use super::listing::Hosts;
use crate::address::RESOLVE_INTERVAL;

/// The maximum number of host names of one service; further ones are left out.
const MAX_NAMES: usize = 256;

/// The host names of one service and their latest addresses.
#[derive(Default)]
pub(super) struct HostNames {
    /// The names of the latest list, with the times of their next lookups.
    listed: BTreeMap<String, Instant>,
    /// The addresses of the listed names and, while there is capacity, of names that have left the list: an operator may
    /// have disabled their instances.
    known: Hosts,
}

impl HostNames {
    /// Handles the names of a new list. New ones are due at `now`.
    pub(super) fn handle_names(&mut self, now: Instant, names: BTreeSet<String>) {
        let previous = std::mem::take(&mut self.listed);
        let due = |name: &String| previous.get(name).copied().unwrap_or(now);
        self.listed = names.into_iter().take(MAX_NAMES).map(|name| (name.clone(), due(&name))).collect();
        while self.known.len() + self.listed.keys().filter(|name| !self.known.contains_key(*name)).count() > MAX_NAMES {
            let Some(left) = self.known.keys().find(|name| !self.listed.contains_key(*name)).cloned() else { return };
            self.known.remove(&left);
        }
    }

    /// Returns the names to look up at `now`; they are due again after [`RESOLVE_INTERVAL`].
    pub(super) fn poll_lookup(&mut self, now: Instant) -> Option<Vec<String>> {
        let mut names = Vec::new();
        for (name, at) in self.listed.iter_mut().filter(|(_, at)| **at <= now) {
            *at = now + RESOLVE_INTERVAL;
            names.push(name.clone());
        }
        (!names.is_empty()).then_some(names)
    }

    /// Returns when [`poll_lookup`](Self::poll_lookup) has the next names, if nothing else happens.
    pub(super) fn next_lookup(&self) -> Option<Instant> {
        self.listed.values().min().copied()
    }

    /// Handles the addresses of a name. After a failed lookup, which the caller omits, the previous addresses stay.
    pub(super) fn handle_addresses(&mut self, name: String, mut addresses: Vec<IpAddr>) {
        addresses.sort();
        addresses.dedup();
        if self.listed.contains_key(&name) {
            self.known.insert(name, addresses);
        }
    }

    /// Returns the known addresses of all names.
    pub(super) fn known(&self) -> &Hosts {
        &self.known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
        names.map(str::to_owned).into()
    }

    #[test]
    fn listed_names_are_resolved_periodically() {
        let (mut hosts, now) = (HostNames::default(), Instant::now());
        hosts.handle_names(now, names(["a", "b"]));
        assert_eq!((hosts.next_lookup(), hosts.poll_lookup(now)), (Some(now), Some(vec!["a".into(), "b".into()])));
        assert_eq!(hosts.poll_lookup(now), None);
        let ip = IpAddr::from([10, 0, 0, 1]);
        hosts.handle_addresses("a".to_owned(), vec![ip, ip]);

        // Another list does not repeat lookups; a failed lookup is due with the others.
        hosts.handle_names(now, names(["a", "b"]));
        assert_eq!(hosts.next_lookup(), Some(now + RESOLVE_INTERVAL));
        assert_eq!(hosts.known(), &Hosts::from([("a".to_owned(), vec![ip])]));
        // The addresses of a name that has left the list stay known, and are not looked up.
        hosts.handle_names(now, names(["b"]));
        assert_eq!(hosts.poll_lookup(now + RESOLVE_INTERVAL), Some(vec!["b".to_owned()]));
        assert!(hosts.known().contains_key("a"));
    }

    #[test]
    fn names_are_bounded() {
        let (mut hosts, now) = (HostNames::default(), Instant::now());
        for round in 0..2 {
            let many = (0..=MAX_NAMES).map(|n| format!("{round}-{n}")).collect();
            hosts.handle_names(now, many);
            let due = hosts.poll_lookup(now).unwrap();
            assert_eq!(due.len(), MAX_NAMES);
            for name in due {
                hosts.handle_addresses(name, vec![IpAddr::from([10, 0, 0, 1])]);
            }
            assert_eq!(hosts.known().len(), MAX_NAMES);
        }
    }
}
