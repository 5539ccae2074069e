//! [`RateLimit`]: limits the call rate of callers and methods.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rpc_core::{
    Code, MethodInfo, Peer, Status, TokenBucket,
    layer::{IncomingCall, Served, ServerLayer, ServerNext},
};
use tokio::time::Instant;

/// Limits the call rate of each caller, or of all callers together.
///
/// The layer rejects calls above the rate with `ResourceExhausted` and a retry-after, before their handler executes.
///
/// | constructor | callers that share a limit |
/// |---|---|
/// | [`per_peer`](Self::per_peer) | those with one IPv4 address, or with the same first 64 bits of an IPv6 address ([`Peer::network`]); all callers in this process |
/// | [`per_identity`](Self::per_identity) | those with one proved identity: the name of the token, or else the first name in the certificate; callers without a name as for `per_peer` |
/// | [`total`](Self::total) | all callers |
///
/// The calls of all methods and all connections count together. [`each_method`](Self::each_method) counts each method
/// separately, and [`only`](Self::only) selects the methods. Several limits are several layers.
///
/// # Examples
///
/// ```
/// # use rpc_layers::RateLimit;
/// # let builder = rpc_server::Server::builder();
/// let builder = builder
///     // Each identity may make 100 calls per second, and 500 calls at once after it was idle.
///     .layer(RateLimit::per_identity(100.0, 500.0))
///     // In addition, it may make 2 calls of this expensive method per second.
///     .layer(RateLimit::per_identity(2.0, 2.0).only("shop.Goods:1.0/search"))
///     // All callers together may call each method 1000 times per second.
///     .layer(RateLimit::total(1000.0, 1000.0).each_method());
/// ```
#[derive(Debug)]
pub struct RateLimit {
    subject: Subject,
    each_method: bool,
    /// The methods and services to limit; empty for all.
    targets: Vec<String>,
    rate: f64,
    burst: f64,
    max_buckets: usize,
    hasher: RandomState,
    buckets: Mutex<Buckets>,
}

/// The callers that share a limit.
#[derive(Debug, Clone, Copy)]
enum Subject {
    Peer,
    Identity,
    Everyone,
}

/// A caller, or all of them.
#[derive(Debug, Hash)]
enum Caller<'a> {
    Everyone,
    Network(Option<IpAddr>),
    Name(&'a str),
}

#[derive(Debug)]
struct Buckets {
    /// By the hash of the caller, and of the method if it counts separately.
    ///
    /// The hash has a random key, so a caller cannot cause a collision.
    known: HashMap<u64, Bucket>,
    /// Shared by all that are not in `known`.
    others: TokenBucket,
    /// When full buckets were last removed.
    swept: Instant,
}

#[derive(Debug)]
struct Bucket {
    tokens: TokenBucket,
    used: Instant,
}

impl RateLimit {
    /// The default maximum number of buckets.
    pub const MAX_BUCKETS: usize = 10_000;

    /// Limits each address to `rate` calls per second, with bursts of up to `burst` calls, at least 1.
    ///
    /// A `rate` that is not positive allows one burst, and then one call per day.
    pub fn per_peer(rate: f64, burst: f64) -> Self {
        Self::new(Subject::Peer, rate, burst)
    }

    /// Limits each proved identity; `rate` and `burst` as for [`per_peer`](Self::per_peer).
    pub fn per_identity(rate: f64, burst: f64) -> Self {
        Self::new(Subject::Identity, rate, burst)
    }

    /// Limits all callers together; `rate` and `burst` as for [`per_peer`](Self::per_peer).
    pub fn total(rate: f64, burst: f64) -> Self {
        Self::new(Subject::Everyone, rate, burst)
    }

    fn new(subject: Subject, rate: f64, burst: f64) -> Self {
        // A rate of 0 would have no finite retry-after.
        let (rate, burst, now) = (rate.max(MIN_RATE), burst.max(1.0), Instant::now());
        let others = TokenBucket::new(burst, rate, now);
        let buckets = Mutex::new(Buckets { known: HashMap::new(), others, swept: now });
        let (targets, hasher) = (Vec::new(), RandomState::new());
        Self { subject, each_method: false, targets, rate, burst, max_buckets: Self::MAX_BUCKETS, hasher, buckets }
    }

    /// Counts the calls of each method separately.
    #[must_use]
    pub fn each_method(mut self) -> Self {
        self.each_method = true;
        self
    }

    /// Limits only the calls of a method such as `"demo.Greeter:1.0/hello"`, or of a service such as
    /// `"demo.Greeter:1.0"`.
    ///
    /// The targets of several calls add up. A target that the server does not serve has no effect.
    #[must_use]
    pub fn only(mut self, target: impl Into<String>) -> Self {
        self.targets.push(target.into());
        self
    }

    /// Sets the maximum number of buckets; default 10 000.
    ///
    /// Each caller has a bucket, with [`each_method`](Self::each_method) one for each method that it calls. Callers
    /// above the limit share one bucket, until another bucket is full again. A higher value uses more memory, about 100
    /// bytes per bucket.
    #[must_use]
    pub fn with_max_buckets(mut self, max_buckets: usize) -> Self {
        self.max_buckets = max_buckets;
        self
    }

    fn applies_to(&self, method: &MethodInfo) -> bool {
        let is_of = |target: &String| {
            let rest = method.route().strip_prefix(target.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.targets.is_empty() || self.targets.iter().any(is_of)
    }

    fn caller<'a>(&self, peer: &'a Peer) -> Caller<'a> {
        let name = || peer.identity().names().next().map(Caller::Name);
        match self.subject {
            Subject::Everyone => Caller::Everyone,
            Subject::Identity => name().unwrap_or(Caller::Network(peer.network())),
            Subject::Peer => Caller::Network(peer.network()),
        }
    }

    /// Takes one token for a call, or returns the time until one is available.
    fn take(&self, peer: &Peer, route: &str, now: Instant) -> Result<(), Duration> {
        let key = self.hasher.hash_one((self.caller(peer), self.each_method.then_some(route)));
        let buckets = &mut *self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.known.contains_key(&key) && buckets.known.len() >= self.max_buckets {
            buckets.remove_full(now, Duration::from_secs_f64((self.burst / self.rate).min(SECONDS_PER_DAY)));
            if buckets.known.len() >= self.max_buckets {
                return buckets.others.take(now);
            }
        }
        let bucket = buckets
            .known
            .entry(key)
            .or_insert_with(|| Bucket { tokens: TokenBucket::new(self.burst, self.rate, now), used: now });
        bucket.used = now;
        bucket.tokens.take(now)
    }

    fn rejection(&self) -> Status {
        let (subject, name) = match self.subject {
            Subject::Peer => ("this peer", "per_peer"),
            Subject::Identity => ("this identity", "per_identity"),
            Subject::Everyone => ("all callers", "total"),
        };
        let method = if self.each_method { " of this method" } else { "" };
        let (rate, burst) = (self.rate, self.burst);
        let message = format!(
            "call rate{method} of {subject} is above {rate} per second with bursts of {burst} (RateLimit::{name})"
        );
        Status::new(Code::ResourceExhausted, message)
    }
}

impl Buckets {
    /// Removes the buckets that are full again.
    ///
    /// Scans all buckets, so at most once a second.
    fn remove_full(&mut self, now: Instant, full_after: Duration) {
        if now.duration_since(self.swept) >= SWEEP_INTERVAL {
            self.swept = now;
            self.known.retain(|_, bucket| now.duration_since(bucket.used) < full_after);
        }
    }
}

impl ServerLayer for RateLimit {
    async fn serve(&self, arrival: &IncomingCall, next: ServerNext<'_>) -> Served {
        let method = arrival.method();
        if !self.applies_to(method) {
            return next.run().await;
        }
        match self.take(arrival.context().peer(), method.route(), Instant::now()) {
            Ok(()) => next.run().await,
            Err(wait) => next.reject_until(self.rejection(), wait),
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

    use rpc_core::{Identity, ServiceId};

    use super::*;

    fn peer(ip: &str) -> Peer {
        let address = SocketAddr::new(ip.parse().unwrap(), 1);
        Peer::new(address, address)
    }

    fn allowed(limit: &RateLimit, peer: &Peer, now: Instant) -> usize {
        allowed_of(limit, peer, "s:1/m", now)
    }

    fn allowed_of(limit: &RateLimit, peer: &Peer, route: &str, now: Instant) -> usize {
        std::iter::repeat_with(|| limit.take(peer, route, now)).take(100).take_while(Result::is_ok).count()
    }

    #[test]
    fn each_peer_has_its_own_bucket() {
        let (limit, now) = (RateLimit::per_peer(2.0, 5.0), Instant::now());
        assert_eq!(allowed(&limit, &peer("10.0.0.1"), now), 5);
        assert_eq!(allowed(&limit, &peer("::ffff:10.0.0.1"), now), 0, "the same address, mapped to IPv6");
        assert_eq!(allowed(&limit, &peer("10.0.0.2"), now), 5);
        assert_eq!(limit.take(&peer("10.0.0.1"), "s:1/m", now), Err(Duration::from_millis(500)));
        assert_eq!(allowed(&limit, &peer("10.0.0.1"), now + Duration::from_secs(1)), 2);
        assert_eq!(allowed(&limit, &peer("2001:db8::1"), now), 5);
        assert_eq!(allowed(&limit, &peer("2001:db8::2"), now), 0, "the same network of 64 bits");
        assert_eq!(allowed(&limit, &Peer::default(), now), 5, "this process");
    }

    #[test]
    fn each_identity_has_its_own_bucket() {
        let (limit, now) = (RateLimit::per_identity(2.0, 5.0), Instant::now());
        let named = |name: &str, ip| peer(ip).with_identity(Identity::ANONYMOUS.with_token(name));
        assert_eq!(allowed(&limit, &named("ann", "10.0.0.1"), now), 5);
        assert_eq!(allowed(&limit, &named("ann", "10.0.0.2"), now), 0, "at another address");
        assert_eq!(allowed(&limit, &named("bob", "10.0.0.1"), now), 5, "at the same address");
        let certified = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            peer("10.0.0.1").with_identity(Identity::ANONYMOUS.with_certificate(names))
        };
        assert_eq!(allowed(&limit, &certified(&["shop", "a"]), now), 5);
        assert_eq!(allowed(&limit, &certified(&["shop", "b"]), now), 0, "a renewed certificate");
        assert_eq!(allowed(&limit, &certified(&[]), now), 5, "without a name, the address");
        assert_eq!(allowed(&limit, &peer("10.0.0.1"), now), 0, "the same address");
    }

    #[test]
    fn each_method_has_its_own_bucket() {
        let now = Instant::now();
        for (limit, expected) in [
            (RateLimit::total(2.0, 5.0), [5, 0, 0]),
            (RateLimit::total(2.0, 5.0).each_method(), [5, 0, 5]),
            (RateLimit::per_peer(2.0, 5.0).each_method(), [5, 5, 5]),
        ] {
            let calls = [("10.0.0.1", "s:1/a"), ("10.0.0.2", "s:1/a"), ("10.0.0.1", "s:1/b")];
            assert_eq!(calls.map(|(ip, route)| allowed_of(&limit, &peer(ip), route, now)), expected, "{limit:?}");
        }
    }

    #[test]
    fn limit_applies_to_its_targets_only() {
        let method = MethodInfo::new(ServiceId::from_static("demo.Greeter", "1.0"), "hello");
        let applies = |targets: &[&str]| {
            let limit = targets.iter().fold(RateLimit::total(1.0, 1.0), |limit, target| limit.only(*target));
            limit.applies_to(&method)
        };
        for targets in [&[][..], &["demo.Greeter:1.0"], &["demo.Greeter:1.0/hello"], &["x:1", "demo.Greeter:1.0"]] {
            assert!(applies(targets), "{targets:?}");
        }
        for target in ["demo.Greeter", "demo.Greeter:1", "demo.Greeter:1.0/hell", "demo.Greeter:1.0/hello2", ""] {
            assert!(!applies(&[target]), "{target}");
        }
    }

    #[test]
    fn callers_above_the_limit_share_one_bucket() {
        let start = Instant::now();
        let limit = RateLimit::per_peer(1.0, 3.0).with_max_buckets(2);
        for ip in ["10.0.0.1", "10.0.0.2"] {
            assert_eq!(allowed(&limit, &peer(ip), start), 3);
        }
        assert_eq!(allowed(&limit, &peer("10.0.0.3"), start), 3);
        assert_eq!(allowed(&limit, &peer("10.0.0.4"), start), 0, "shares the bucket of the third peer");
        // A known peer keeps its used bucket; an idle peer is removed for a new one.
        let later = start + Duration::from_secs(2);
        assert_eq!(allowed(&limit, &peer("10.0.0.1"), later), 2);
        let later = start + Duration::from_secs(3);
        assert_eq!(allowed(&limit, &peer("10.0.0.4"), later), 3);
        assert_eq!(limit.buckets.lock().unwrap().known.len(), 2);
    }

    #[test]
    fn invalid_rates_do_not_panic() {
        for number in [0.0, -1.0, f64::NAN] {
            let limit = RateLimit::per_peer(number, number);
            let (now, local) = (Instant::now(), Peer::default());
            assert_eq!(allowed(&limit, &local, now), 1);
            assert!(limit.take(&local, "s:1/m", now).is_err());
        }
    }
}
