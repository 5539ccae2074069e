//! Checks the properties of the connections that clients open.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use super::history::{ConnectionRecord, Events};

/// Returns the violated properties.
pub(crate) fn check(events: &Events) -> Vec<String> {
    let mut pairs: BTreeMap<(usize, SocketAddr), Vec<&ConnectionRecord>> = BTreeMap::new();
    for connection in &events.connections {
        pairs.entry((connection.client, connection.address)).or_default().push(connection);
    }
    let mut violations = Vec::new();
    for connections in pairs.values() {
        violations.extend(
            connections
                .iter()
                .filter(|connection| connection.ended.is_none())
                .map(|connection| format!("never closed: {connection:?}")),
        );
        violations.extend(one_at_a_time(connections, events));
        violations.extend(backs_off(connections, events));
    }
    violations
}

/// A client has at most one connection to an address.
///
/// Exceptions: after the registry removed the address and listed it again, or the server began to drain, the earlier
/// connection may still complete its calls in flight.
fn one_at_a_time(connections: &[&ConnectionRecord], events: &Events) -> Option<String> {
    connections.iter().enumerate().find_map(|(index, connection)| {
        let overlapping = connections[..index].iter().find(|earlier| {
            let open = earlier.ended.is_none_or(|ended| ended > connection.at);
            open && !removed_between(events, earlier, connection) && !drained_between(events, earlier, connection)
        })?;
        Some(format!("two connections at once: {overlapping:?} and {connection:?}"))
    })
}

/// After n consecutive failures a client waits for at least half of `2 << (n + 1)` ms, or for 200 ms: a call without a
/// provider then requests a connect.
///
/// After the twelfth it waits for 30 s, unless too few providers are usable. The count restarts if the registry removes the
/// address in between, or lists it again after the twelfth failure.
fn backs_off(connections: &[&ConnectionRecord], events: &Events) -> Option<String> {
    let (mut failures, mut most_failures) = (0, 0);
    for pair in connections.windows(2) {
        let [one, next] = pair else { continue };
        let Some(ended) = one.ended else { continue };
        failures = if one.received { 0 } else { failures + 1 };
        // A client also counts a short connection as a failure, unless it carried a response.
        most_failures =
            if one.received && ended.saturating_sub(one.at) >= STABLE_AFTER { 0 } else { most_failures + 1 };
        let evicted = (failures, most_failures) == (MAX_FAILURES, MAX_FAILURES);
        if removed_between(events, one, next) || evicted && listed_between(events, one, next) {
            (failures, most_failures) = (0, 0);
            continue;
        }
        if most_failures >= MAX_FAILURES && !evicted {
            continue;
        }
        // An eviction of any provider may be the one after which the client connects to all evicted ones again.
        let reconnects_to_all = evicted && (failed_just_before(events, next) || is_short(events, next));
        let least = match evicted {
            true if reconnects_to_all => Duration::ZERO,
            true => EVICTED_FOR,
            false => Duration::from_millis(1 << (failures + 1)).min(MIN_REQUESTED_DELAY),
        };
        // `one_at_a_time` checks connections that overlap.
        if next.at >= ended && next.at - ended + SLACK < least {
            return Some(format!(
                "connected again too soon after {failures} failures, minimum {least:?}: {one:?} and {next:?}"
            ));
        }
        if evicted {
            (failures, most_failures) = (0, 0);
        }
    }
    None
}

/// Returns whether a connection of the same client ended just before this one started, and was the twelfth to its
/// address or a later one.
fn failed_just_before(events: &Events, connection: &ConnectionRecord) -> bool {
    let of_client = || events.connections.iter().filter(|other| other.client == connection.client);
    of_client().any(|other| {
        let just_before = other.ended.is_some_and(|ended| ended <= connection.at && connection.at - ended <= SLACK);
        let attempts = of_client().filter(|earlier| earlier.address == other.address && earlier.at <= other.at).count();
        just_before && attempts >= MAX_FAILURES
    })
}

/// Returns whether the client has open connections to fewer than half of the listed providers when this connection begins.
fn is_short(events: &Events, connection: &ConnectionRecord) -> bool {
    let (client, at) = (connection.client, connection.at);
    let pushes = events.pushes.iter().filter(|push| push.client == client && push.at <= at);
    let listed: BTreeSet<_> = pushes.flat_map(|push| &push.list).collect();
    let is_open = |address: &SocketAddr| {
        let mut open = events.connections.iter().filter(|one| one.client == client && one.address == *address);
        open.any(|one| one.received && one.at < at && one.ended.is_none_or(|ended| ended > at))
    };
    listed.iter().filter(|address| is_open(address)).count() * 2 < listed.len()
}

/// Returns whether the server of the first connection drained it before the second one.
fn drained_between(events: &Events, one: &ConnectionRecord, next: &ConnectionRecord) -> bool {
    let is_drained = |at: Duration| at <= next.at && one.at <= at + MAX_DRAIN_NOTICE;
    events.drains.iter().any(|(server, at)| *server == one.address && is_drained(*at))
}

/// Returns whether the registry removed the address from a list between the starts of two connections.
fn removed_between(events: &Events, one: &ConnectionRecord, next: &ConnectionRecord) -> bool {
    let mut pushes = events.pushes.iter().enumerate().filter(|(_, push)| push.client == one.client);
    pushes.any(|(index, push)| {
        let during = (one.at..=next.at).contains(&push.at);
        during && !push.list.contains(&one.address) && {
            let mut earlier = events.pushes[..index].iter().rev();
            let before = earlier.find(|before| (before.client, before.service) == (push.client, push.service));
            before.is_some_and(|before| before.list.contains(&one.address))
        }
    })
}

/// Returns whether the client received a list with the address between the starts of two connections.
fn listed_between(events: &Events, one: &ConnectionRecord, next: &ConnectionRecord) -> bool {
    let mut pushes = events.pushes.iter().filter(|push| push.client == one.client);
    pushes.any(|push| (one.at..=next.at).contains(&push.at) && push.list.contains(&one.address))
}

const MAX_FAILURES: usize = 12;
const EVICTED_FOR: Duration = Duration::from_secs(30);
const MIN_REQUESTED_DELAY: Duration = Duration::from_millis(200);
const STABLE_AFTER: Duration = Duration::from_secs(1);
/// The longest time for which a server accepts connections after the start of its drain.
const MAX_DRAIN_NOTICE: Duration = Duration::from_millis(300);
/// Tolerance for the resolution of timers.
const SLACK: Duration = Duration::from_millis(2);
