//! [`RateLimit`]: how often a peer may call.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rpc_core::{
    Code, Status, TokenBucket,
    layer::{Arrival, Served, ServerLayer, ServerNext},
};
use tokio::time::Instant;

/// Refuses calls of peers who call too often, before the handler runs, with `ResourceExhausted` and the time to wait.
///
/// A peer is an IPv4 address, or the first 64 bits of an IPv6 one, of which a host has as many as it likes. All methods count
/// together, all connections of a peer too. Callers in this process are one peer.
///
/// # Examples
///
/// ```
/// # use rpc_layers::RateLimit;
/// // A hundred calls a second each; who was quiet may make 500 at once.
/// let limit = RateLimit::per_peer(100.0, 500.0).with_max_peers(1_000);
/// ```
#[derive(Debug)]
pub struct RateLimit {
    a_second: f64,
    burst: f64,
    max_peers: usize,
    peers: Mutex<Peers>,
}

#[derive(Debug)]
struct Peers {
    known: HashMap<Option<IpAddr>, Bucket>,
    /// Of all for whom there is no room in the table.
    others: TokenBucket,
    /// When peers were last forgotten.
    swept: Instant,
}

#[derive(Debug)]
struct Bucket {
    tokens: TokenBucket,
    used: Instant,
}

impl RateLimit {
    /// How many peers are told apart by default.
    pub const MAX_PEERS: usize = 10_000;

    /// Lets each peer make `a_second` calls a second, and saves up to `burst` of them, at least one. Numbers that are not over
    /// 0 let nobody call more than once.
    pub fn per_peer(a_second: f64, burst: f64) -> Self {
        // A rate of 0 has no time to wait.
        let (a_second, burst, now) = (a_second.max(LEAST_RATE), burst.max(1.0), Instant::now());
        let others = TokenBucket::new(burst, a_second, now);
        let peers = Mutex::new(Peers { known: HashMap::new(), others, swept: now });
        Self { a_second, burst, max_peers: Self::MAX_PEERS, peers }
    }

    /// Sets how many peers are told apart; default 10 000. Those over it share one allowance, until others have been quiet for
    /// so long that theirs is full again. Raised, more memory is held, about 100 bytes for each.
    #[must_use]
    pub fn with_max_peers(mut self, max_peers: usize) -> Self {
        self.max_peers = max_peers;
        self
    }

    /// Takes one call of a peer, or says how long to wait.
    fn take(&self, ip: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let peers = &mut *self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = ip.map(network);
        if !peers.known.contains_key(&peer) && peers.known.len() >= self.max_peers {
            peers.forget_quiet(now, Duration::from_secs_f64((self.burst / self.a_second).min(LONGEST)));
            if peers.known.len() >= self.max_peers {
                return peers.others.take(now);
            }
        }
        let bucket = peers
            .known
            .entry(peer)
            .or_insert_with(|| Bucket { tokens: TokenBucket::new(self.burst, self.a_second, now), used: now });
        bucket.used = now;
        bucket.tokens.take(now)
    }
}

impl Peers {
    /// Forgets who was quiet for so long that forgetting makes no difference; once a second, because it looks at all.
    fn forget_quiet(&mut self, now: Instant, full_after: Duration) {
        if now.duration_since(self.swept) >= SWEEP {
            self.swept = now;
            self.known.retain(|_, bucket| now.duration_since(bucket.used) < full_after);
        }
    }
}

impl ServerLayer for RateLimit {
    async fn serve(&self, arrival: &Arrival, next: ServerNext<'_>) -> Served {
        let ip = arrival.context().peer().address.map(|address| address.ip());
        match self.take(ip, Instant::now()) {
            Ok(()) => next.run().await,
            Err(wait) => {
                let message = format!("the caller makes more than {} calls a second", self.a_second);
                next.refuse_until(Status::new(Code::ResourceExhausted, message), wait)
            }
        }
    }
}

/// Whose addresses are one peer's.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
    }
}

const SWEEP: Duration = Duration::from_secs(1);
/// One call in a day, and how many seconds that is.
const LEAST_RATE: f64 = 1.0 / LONGEST;
const LONGEST: f64 = 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn allowed(limit: &RateLimit, peer: Option<IpAddr>, now: Instant) -> usize {
        std::iter::repeat_with(|| limit.take(peer, now)).take(100).take_while(Result::is_ok).count()
    }

    #[test]
    fn each_peer_has_its_own_allowance() {
        let (limit, now) = (RateLimit::per_peer(2.0, 5.0), Instant::now());
        assert_eq!(allowed(&limit, ip("10.0.0.1"), now), 5);
        assert_eq!(allowed(&limit, ip("::ffff:10.0.0.1"), now), 0, "the same in other words");
        assert_eq!(allowed(&limit, ip("10.0.0.2"), now), 5);
        assert_eq!(limit.take(ip("10.0.0.1"), now), Err(Duration::from_millis(500)));
        assert_eq!(allowed(&limit, ip("10.0.0.1"), now + Duration::from_secs(1)), 2);
        assert_eq!(allowed(&limit, ip("2001:db8::1"), now), 5);
        assert_eq!(allowed(&limit, ip("2001:db8::2"), now), 0, "the same network");
    }

    #[test]
    fn as_many_peers_are_told_apart_as_may_and_others_share() {
        let start = Instant::now();
        let limit = RateLimit::per_peer(1.0, 3.0).with_max_peers(2);
        for peer in ["10.0.0.1", "10.0.0.2"] {
            assert_eq!(allowed(&limit, ip(peer), start), 3);
        }
        assert_eq!(allowed(&limit, ip("10.0.0.3"), start), 3);
        assert_eq!(allowed(&limit, ip("10.0.0.4"), start), 0, "shared with the third");
        // One that is still known keeps what it has used; one that was quiet makes room.
        let later = start + Duration::from_secs(2);
        assert_eq!(allowed(&limit, ip("10.0.0.1"), later), 2);
        let later = start + Duration::from_secs(3);
        assert_eq!(allowed(&limit, ip("10.0.0.4"), later), 3);
        assert_eq!(limit.peers.lock().unwrap().known.len(), 2);
    }

    #[test]
    fn numbers_without_sense_do_not_panic() {
        for number in [0.0, -1.0, f64::NAN] {
            let limit = RateLimit::per_peer(number, number);
            let now = Instant::now();
            assert_eq!(allowed(&limit, None, now), 1);
            assert!(limit.take(None, now).is_err());
        }
    }
}
