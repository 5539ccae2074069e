//! [`PeerWarnings`]: limits the warnings about peers, so that a peer cannot fill the log.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Limits the warnings about peers to one per peer and subject every 10 s.
#[derive(Debug, Default)]
pub(crate) struct PeerWarnings(Mutex<Warnings>);

#[derive(Debug, Default)]
struct Warnings {
    warned: HashMap<(Subject, Option<IpAddr>), Instant>,
    /// When entries that are not recent were last removed.
    swept: Option<Instant>,
}

/// The subject of a warning about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// Its token or certificate is rejected, or it does not use TLS.
    Handshake,
    /// It calls a method that it may not call.
    Denied,
}

impl PeerWarnings {
    /// Returns whether a warning about `peer` is due, and records that it is logged.
    ///
    /// `peer` is [`Peer::network`](rpc_core::Peer::network). Of more than [`MAX_PEERS`] peers within 10 s, further ones
    /// receive no warning.
    pub(crate) fn is_due(&self, subject: Subject, peer: Option<IpAddr>, now: Instant) -> bool {
        let Warnings { warned, swept } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: &Instant| now.duration_since(*at) < INTERVAL;
        if warned.get(&(subject, peer)).is_some_and(is_recent) {
            return false;
        }
        // Scans all entries, so at most once in each interval.
        if warned.len() >= MAX_PEERS && swept.is_none_or(|at| now.duration_since(at) >= SWEEP_INTERVAL) {
            *swept = Some(now);
            warned.retain(|_, at| is_recent(at));
        }
        let fits = warned.len() < MAX_PEERS;
        if fits {
            warned.insert((subject, peer), now);
        }
        fits
    }
}

/// The minimum time between two warnings about a peer and a subject.
const INTERVAL: Duration = Duration::from_secs(10);
/// The minimum time between two scans of a full table.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The maximum number of peers and subjects with a recent warning.
const MAX_PEERS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: usize) -> Option<IpAddr> {
        Some(IpAddr::from((number as u32).to_be_bytes()))
    }

    #[test]
    fn each_peer_and_subject_is_due_every_10_s() {
        let (warnings, now) = (PeerWarnings::default(), Instant::now());
        let is_due = |subject, number, after| warnings.is_due(subject, peer(number), now + Duration::from_secs(after));
        assert!(is_due(Subject::Denied, 1, 0));
        assert!(!is_due(Subject::Denied, 1, 9));
        assert!(is_due(Subject::Handshake, 1, 9) && is_due(Subject::Denied, 2, 9));
        assert!(is_due(Subject::Denied, 1, 10));
    }

    #[test]
    fn warnings_are_limited_to_1024_peers() {
        let (warnings, now) = (PeerWarnings::default(), Instant::now());
        assert!((0..MAX_PEERS).all(|number| warnings.is_due(Subject::Denied, peer(number), now)));
        assert!(!warnings.is_due(Subject::Denied, peer(MAX_PEERS), now), "one above the limit");
        assert!(warnings.is_due(Subject::Denied, peer(MAX_PEERS), now + INTERVAL), "the others have expired");
        assert_eq!(warnings.0.lock().unwrap().warned.len(), 1);
    }

    #[test]
    fn full_table_is_scanned_once_a_second() {
        let (warnings, now) = (PeerWarnings::default(), Instant::now());
        assert!((0..MAX_PEERS).all(|number| warnings.is_due(Subject::Denied, peer(number), now)));
        let is_due = |after: u64| warnings.is_due(Subject::Denied, peer(MAX_PEERS), now + Duration::from_millis(after));
        assert!(!is_due(9_500), "the others are recent");
        assert!(!is_due(10_499), "the others have expired, and the last scan was less than a second ago");
        assert!(is_due(10_500));
    }
}
