//! [`RateLimit`]: limits the call rate of each peer.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rpc_core::{
    Code, Status, TokenBucket,
    layer::{IncomingCall, Served, ServerLayer, ServerNext},
};
use tokio::time::Instant;

/// Limits the call rate of each peer.
///
/// The layer rejects calls above the rate with `ResourceExhausted` and a retry-after, before their handler executes.
///
/// [`Peer::network`](rpc_core::Peer::network) identifies a peer: an IPv4 address, or the first 64 bits of an IPv6
/// address. The calls of all methods and all connections of a peer count together. All callers in this process are one
/// peer.
///
/// # Examples
///
/// ```
/// # use rpc_layers::RateLimit;
/// // Each peer may make 100 calls per second, and 500 calls at once after it was idle.
/// let limit = RateLimit::per_peer(100.0, 500.0).with_max_peers(1_000);
/// ```
#[derive(Debug)]
pub struct RateLimit {
    rate: f64,
    burst: f64,
    max_peers: usize,
    peers: Mutex<Peers>,
}

#[derive(Debug)]
struct Peers {
    known: HashMap<Option<IpAddr>, Bucket>,
    /// Shared by all peers that are not in `known`.
    others: TokenBucket,
    /// When idle peers were last removed.
    swept: Instant,
}

#[derive(Debug)]
struct Bucket {
    tokens: TokenBucket,
    used: Instant,
}

impl RateLimit {
    /// The default maximum number of peers with a bucket of their own.
    pub const MAX_PEERS: usize = 10_000;

    /// Limits each peer to `rate` calls per second, with bursts of up to `burst` calls, at least 1.
    ///
    /// A `rate` that is not positive allows a peer one burst, and then one call per day.
    pub fn per_peer(rate: f64, burst: f64) -> Self {
        // A rate of 0 would have no finite retry-after.
        let (rate, burst, now) = (rate.max(MIN_RATE), burst.max(1.0), Instant::now());
        let others = TokenBucket::new(burst, rate, now);
        let peers = Mutex::new(Peers { known: HashMap::new(), others, swept: now });
        Self { rate, burst, max_peers: Self::MAX_PEERS, peers }
    }

    /// Sets the maximum number of peers with a bucket of their own; default 10 000.
    ///
    /// Peers above the limit share one bucket, until another peer has been idle for so long that its bucket is full
    /// again. A higher value uses more memory, about 100 bytes per peer.
    #[must_use]
    pub fn with_max_peers(mut self, max_peers: usize) -> Self {
        self.max_peers = max_peers;
        self
    }

    /// Takes one token of a peer, or returns the time until one is available.
    fn take(&self, peer: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let peers = &mut *self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if !peers.known.contains_key(&peer) && peers.known.len() >= self.max_peers {
            peers.remove_idle(now, Duration::from_secs_f64((self.burst / self.rate).min(SECONDS_PER_DAY)));
            if peers.known.len() >= self.max_peers {
                return peers.others.take(now);
            }
        }
        let bucket = peers
            .known
            .entry(peer)
            .or_insert_with(|| Bucket { tokens: TokenBucket::new(self.burst, self.rate, now), used: now });
        bucket.used = now;
        bucket.tokens.take(now)
    }
}

impl Peers {
    /// Removes peers whose bucket is full again.
    ///
    /// Scans all peers, so at most once a second.
    fn remove_idle(&mut self, now: Instant, full_after: Duration) {
        if now.duration_since(self.swept) >= SWEEP_INTERVAL {
            self.swept = now;
            self.known.retain(|_, bucket| now.duration_since(bucket.used) < full_after);
        }
    }
}

impl ServerLayer for RateLimit {
    async fn serve(&self, arrival: &IncomingCall, next: ServerNext<'_>) -> Served {
        match self.take(arrival.context().peer().network(), Instant::now()) {
            Ok(()) => next.run().await,
            Err(wait) => {
                let message = format!(
                    "call rate of this peer is above {} per second with bursts of {} (RateLimit::per_peer)",
                    self.rate, self.burst
                );
                next.reject_until(Status::new(Code::ResourceExhausted, message), wait)
            }
        }
    }
}

const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The lowest rate: one call per day.
const MIN_RATE: f64 = 1.0 / SECONDS_PER_DAY;
const SECONDS_PER_DAY: f64 = 86_400.0;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use rpc_core::Peer;

    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        let address = SocketAddr::new(text.parse().unwrap(), 1);
        Peer::new(address, address).network()
    }

    fn allowed(limit: &RateLimit, peer: Option<IpAddr>, now: Instant) -> usize {
        std::iter::repeat_with(|| limit.take(peer, now)).take(100).take_while(Result::is_ok).count()
    }

    #[test]
    fn each_peer_has_its_own_bucket() {
        let (limit, now) = (RateLimit::per_peer(2.0, 5.0), Instant::now());
        assert_eq!(allowed(&limit, ip("10.0.0.1"), now), 5);
        assert_eq!(allowed(&limit, ip("::ffff:10.0.0.1"), now), 0, "the same address, mapped to IPv6");
        assert_eq!(allowed(&limit, ip("10.0.0.2"), now), 5);
        assert_eq!(limit.take(ip("10.0.0.1"), now), Err(Duration::from_millis(500)));
        assert_eq!(allowed(&limit, ip("10.0.0.1"), now + Duration::from_secs(1)), 2);
        assert_eq!(allowed(&limit, ip("2001:db8::1"), now), 5);
        assert_eq!(allowed(&limit, ip("2001:db8::2"), now), 0, "the same network of 64 bits");
    }

    #[test]
    fn peers_above_the_limit_share_one_bucket() {
        let start = Instant::now();
        let limit = RateLimit::per_peer(1.0, 3.0).with_max_peers(2);
        for peer in ["10.0.0.1", "10.0.0.2"] {
            assert_eq!(allowed(&limit, ip(peer), start), 3);
        }
        assert_eq!(allowed(&limit, ip("10.0.0.3"), start), 3);
        assert_eq!(allowed(&limit, ip("10.0.0.4"), start), 0, "shares the bucket of the third peer");
        // A known peer keeps its used bucket; an idle peer is removed for a new one.
        let later = start + Duration::from_secs(2);
        assert_eq!(allowed(&limit, ip("10.0.0.1"), later), 2);
        let later = start + Duration::from_secs(3);
        assert_eq!(allowed(&limit, ip("10.0.0.4"), later), 3);
        assert_eq!(limit.peers.lock().unwrap().known.len(), 2);
    }

    #[test]
    fn invalid_rates_do_not_panic() {
        for number in [0.0, -1.0, f64::NAN] {
            let limit = RateLimit::per_peer(number, number);
            let now = Instant::now();
            assert_eq!(allowed(&limit, None, now), 1);
            assert!(limit.take(None, now).is_err());
        }
    }
}
