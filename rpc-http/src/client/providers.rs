//! [`Providers`]: the providers of a service, and picking one.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rpc_core::{Addresses, Code, Discovery, Error, Instance, Phase, ServiceId};
use tokio::time::{Instant, sleep};

use super::{config::HttpCallerConfig, pool::Pool};

/// The providers of a service.
pub(super) struct Providers {
    name: ServiceId,
    config: HttpCallerConfig,
    /// Kept, because a registry ends its watches when it is dropped.
    registry: Arc<dyn Discovery>,
    listed: Mutex<Addresses>,
    known: Mutex<HashMap<SocketAddr, Arc<Provider>>>,
}

/// A provider: its connections and its load by this caller.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) address: SocketAddr,
    pub(super) pool: Pool,
    in_flight: AtomicUsize,
    /// Until when others are picked, because it could not be reached or asked for a pause.
    rests_until: Mutex<Option<Instant>>,
}

/// A call in flight at a provider, until it is dropped.
#[derive(Debug)]
pub(super) struct Picked(pub(super) Arc<Provider>);

impl Providers {
    pub(super) fn new(name: ServiceId, registry: Arc<dyn Discovery>, config: HttpCallerConfig) -> Self {
        let listed = Mutex::new(registry.watch(&name));
        Self { name, config, registry, listed, known: Mutex::default() }
    }

    /// Picks a provider that is not among `tried`, or one of those if there is no other.
    ///
    /// Waits for the first answer of the registry, and with `waits` for a provider.
    ///
    /// # Errors
    ///
    /// `Unavailable` without a provider.
    pub(super) async fn pick(&self, tried: &[SocketAddr], waits: bool) -> Result<Picked, Error> {
        let mut listed = self.listed().clone();
        loop {
            let list = listed.borrow_and_update().clone();
            match list.as_deref() {
                Some([]) if !waits => return Err(self.unavailable("the registry lists no provider")),
                None | Some([]) => {}
                Some(list) => {
                    if let Some(picked) = self.pick_from(list, tried) {
                        return Ok(picked);
                    }
                    if !waits {
                        return Err(
                            self.unavailable("no listed provider is enabled, has a weight, and uses plain HTTP")
                        );
                    }
                }
            }
            if listed.changed().await.is_err() {
                // The watch has ended, for example with the runtime in which it ran.
                sleep(RETRY_DELAY).await;
                listed = self.registry.watch(&self.name);
                *self.listed() = listed.clone();
            }
        }
    }

    /// Returns the provider at an address that the call states.
    pub(super) fn at(&self, address: SocketAddr) -> Picked {
        Picked::new(self.provider(&mut self.lock(), address))
    }

    /// Draws two providers by weight, and picks the one with fewer calls in flight relative to its weight.
    fn pick_from(&self, list: &[Instance], tried: &[SocketAddr]) -> Option<Picked> {
        let is_plain = |instance: &&Instance| instance.metadata().get("secure").is_none_or(|secure| secure != "true");
        let usable = || list.iter().filter(|one| one.is_enabled() && one.weight() > 0.0).filter(is_plain);
        let now = Instant::now();
        let mut known = self.lock();
        known.retain(|address, provider| {
            Arc::strong_count(provider) > 1 || list.iter().any(|listed| listed.address() == *address)
        });
        let all: Vec<_> =
            usable().map(|instance| (instance.weight(), self.provider(&mut known, instance.address()))).collect();
        drop(known);
        let fresh = |(_, provider): &&(f64, Arc<Provider>)| !tried.contains(&provider.address);
        let rested = |pair: &&(f64, Arc<Provider>)| fresh(pair) && !pair.1.rests(now);
        let mut candidates: Vec<_> = all.iter().filter(rested).collect();
        if candidates.is_empty() {
            candidates = all.iter().filter(fresh).collect();
        }
        if candidates.is_empty() {
            candidates = all.iter().collect();
        }
        let first = draw(&candidates)?;
        let others: Vec<_> = candidates.iter().copied().filter(|other| !std::ptr::eq(*other, first)).collect();
        let load = |(weight, provider): &(f64, Arc<Provider>)| provider.in_flight.load(Relaxed) as f64 / weight;
        let picked = match draw(&others) {
            Some(second) if load(second) < load(first) => second,
            _ => first,
        };
        Some(Picked::new(Arc::clone(&picked.1)))
    }

    fn provider(&self, known: &mut HashMap<SocketAddr, Arc<Provider>>, address: SocketAddr) -> Arc<Provider> {
        let provider = known.entry(address).or_insert_with(|| {
            let pool = Pool::new(address, &self.config);
            Arc::new(Provider { address, pool, in_flight: AtomicUsize::new(0), rests_until: Mutex::default() })
        });
        Arc::clone(provider)
    }

    fn unavailable(&self, detail: &str) -> Error {
        Error::not_executed(Code::Unavailable, format!("service {}: {detail}", self.name)).with_phase(Phase::Resolve)
    }

    fn listed(&self) -> MutexGuard<'_, Addresses> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Provider>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Provider {
    /// Picks others for a time, as long as there are others.
    pub(super) fn rest(&self, time: Duration) {
        let until = Instant::now() + time.min(MAX_REST);
        *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    fn rests(&self, now: Instant) -> bool {
        self.rests_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now < until)
    }
}

impl Picked {
    fn new(provider: Arc<Provider>) -> Self {
        provider.in_flight.fetch_add(1, Relaxed);
        Self(provider)
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// Draws one of the candidates in proportion to their weights.
fn draw<'a>(candidates: &[&'a (f64, Arc<Provider>)]) -> Option<&'a (f64, Arc<Provider>)> {
    let total: f64 = candidates.iter().map(|(weight, _)| weight).sum();
    let mut at = rand::random::<f64>() * total;
    for candidate in candidates {
        at -= candidate.0;
        if at < 0.0 {
            return Some(candidate);
        }
    }
    candidates.last().copied()
}

/// The pause before a list is watched again whose watch has ended.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// The time for which others are picked than a provider that could not be reached.
pub(super) const REST: Duration = Duration::from_secs(1);
/// The longest time for which others are picked than a provider that asked for a pause.
const MAX_REST: Duration = Duration::from_secs(5);
