//! What must hold of the connections that clients make.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::history::{Events, Link};

/// What should have held and did not.
pub(crate) fn check(events: &Events) -> Vec<String> {
    let mut pairs: BTreeMap<(usize, SocketAddr), Vec<&Link>> = BTreeMap::new();
    for link in &events.links {
        pairs.entry((link.client, link.address)).or_default().push(link);
    }
    let mut violations = Vec::new();
    for links in pairs.values() {
        violations
            .extend(links.iter().filter(|link| link.ended.is_none()).map(|link| format!("never closed: {link:?}")));
        violations.extend(one_at_a_time(links, events));
        violations.extend(backs_off(links, events));
    }
    violations
}

/// At most one connection for each client and address, but for one that finishes what is in flight after the registry dropped
/// the address, when it is listed again.
fn one_at_a_time(links: &[&Link], events: &Events) -> Option<String> {
    links.iter().enumerate().find_map(|(index, link)| {
        let doubles = links[..index].iter().find(|earlier| {
            let open = earlier.ended.is_none_or(|ended| ended > link.at);
            open && !dropped_between(events, earlier, link)
        })?;
        Some(format!("two connections at once: {doubles:?} and {link:?}"))
    })
}

/// The n-th failure in a row is followed by at least half of `2 << (n + 1)` ms, and the twelfth by 30 s, unless the registry
/// dropped the address meanwhile, or spoke of it after the twelfth.
fn backs_off(links: &[&Link], events: &Events) -> Option<String> {
    let mut failures = 0;
    for pair in links.windows(2) {
        let [one, next] = pair else { continue };
        let Some(ended) = one.ended else { continue };
        failures = if one.heard { 0 } else { failures + 1 };
        let evicted = failures >= MOST_FAILURES;
        if dropped_between(events, one, next) || evicted && spoken_of_between(events, one, next) {
            failures = 0;
            continue;
        }
        let least = if evicted { EVICTED_FOR } else { Duration::from_millis(1 << (failures + 1)) };
        // Whoever is called twice at once is not called too soon, and that is another check's.
        if next.at >= ended && next.at - ended + SLACK < least {
            return Some(format!("called again too soon after {failures} failures, {least:?}: {one:?} and {next:?}"));
        }
    }
    None
}

/// Whether the registry took the address off a list between the beginnings of two connections.
fn dropped_between(events: &Events, one: &Link, next: &Link) -> bool {
    let mut pushes = events.pushes.iter().enumerate().filter(|(_, push)| push.client == one.client);
    pushes.any(|(index, push)| {
        let during = (one.at..=next.at).contains(&push.at);
        during && !push.list.contains(&one.address) && {
            let mut earlier = events.pushes[..index].iter().rev();
            let before = earlier.find(|before| (before.client, before.which) == (push.client, push.which));
            before.is_some_and(|before| before.list.contains(&one.address))
        }
    })
}

/// Whether the registry told the client a list with the address between the beginnings of two connections.
fn spoken_of_between(events: &Events, one: &Link, next: &Link) -> bool {
    let mut pushes = events.pushes.iter().filter(|push| push.client == one.client);
    pushes.any(|push| (one.at..=next.at).contains(&push.at) && push.list.contains(&one.address))
}

const MOST_FAILURES: u32 = 12;
const EVICTED_FOR: Duration = Duration::from_secs(30);
/// Timers have a resolution.
const SLACK: Duration = Duration::from_millis(2);
