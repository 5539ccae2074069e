//! [`FakeRegistry`]: pushes lists late, incomplete or wrong.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rpc_core::{Addresses, BoxFuture, Discovery, Error, Instance, RegisterOutcome, Registry, ServiceId};
use tokio::sync::watch;

use super::{
    history::{History, Push, now},
    services::SimService,
};

type List = Arc<[Instance]>;

/// A registry outside the simulated network.
pub(crate) struct FakeRegistry {
    state: Mutex<State>,
    history: Arc<History>,
}

struct State {
    rng: SmallRng,
    /// Maximum delay of a correct list.
    push_delay: Duration,
    /// Addresses without a provider, which wrong lists contain.
    wrong: Vec<SocketAddr>,
    registered: BTreeMap<SimService, BTreeMap<SocketAddr, Instance>>,
    views: BTreeMap<(usize, SimService), watch::Sender<Option<List>>>,
    pending: BTreeMap<(Duration, u64), (usize, SimService, List)>,
    count: u64,
}

/// Relation of a pushed list to the registered instances.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PushedList {
    /// An empty list.
    Empty,
    /// The registered instances and some wrong addresses.
    Extended,
    /// Some of the registered instances.
    Partial,
    /// The registered instances with changed metadata.
    Modified,
    /// The registered instances.
    Correct,
}

impl FakeRegistry {
    /// Returns a registry without instances.
    pub(crate) fn new(history: Arc<History>, seed: u64, push_delay: Duration, wrong: Vec<SocketAddr>) -> Arc<Self> {
        let state = State {
            rng: SmallRng::seed_from_u64(seed),
            push_delay,
            wrong,
            registered: BTreeMap::new(),
            views: BTreeMap::new(),
            pending: BTreeMap::new(),
            count: 0,
        };
        Arc::new(Self { state: Mutex::new(state), history })
    }

    /// Returns the registry for `client`.
    pub(crate) fn view(self: &Arc<Self>, client: usize) -> Arc<ClientView> {
        Arc::new(ClientView { registry: Arc::clone(self), client })
    }

    /// Delivers the lists that are due.
    pub(crate) fn tick(&self, now: Duration) {
        loop {
            let mut state = self.lock();
            let Some(first) = state.pending.first_entry().filter(|first| first.key().0 <= now) else { return };
            let (client, service, list) = first.remove();
            let Some(view) = state.views.get(&(client, service)) else { continue };
            let addresses = list.iter().map(Instance::address).collect();
            self.history.record_push(Push { client, service, at: now, list: addresses });
            view.send_replace(Some(list));
        }
    }

    /// Schedules an immediate push of the list `pushed` to one client.
    pub(crate) fn push(&self, now: Duration, client: usize, service: SimService, pushed: PushedList) {
        let state = &mut *self.lock();
        let mut list = state.list(service);
        match pushed {
            PushedList::Empty => list.clear(),
            PushedList::Extended => {
                let rng = &mut state.rng;
                list.extend(state.wrong.iter().filter(|_| rng.random_bool(0.4)).copied().map(Instance::new));
            }
            PushedList::Partial => list.retain(|_| state.rng.random_bool(0.5)),
            PushedList::Modified => {
                list =
                    list.into_iter().map(|instance| instance.with_metadata("modified", format!("{now:?}"))).collect();
            }
            PushedList::Correct => {}
        }
        state.schedule(now, client, service, list.into());
    }

    /// Pushes the correct lists to all clients, without delays from now on, and discards the pending pushes.
    pub(crate) fn repair(&self, now: Duration) {
        let state = &mut *self.lock();
        state.pending.clear();
        state.push_delay = Duration::ZERO;
        for service in SimService::ALL {
            state.push_to_all(now, service);
        }
    }

    /// Removes a server that ended without deregistration.
    pub(crate) fn delist(&self, now: Duration, address: SocketAddr) {
        for service in SimService::ALL {
            self.lock().change(now, service, |list| drop(list.remove(&address)));
        }
    }

    /// Returns the registered addresses.
    pub(crate) fn registered(&self, service: SimService) -> Vec<SocketAddr> {
        self.lock().list(service).iter().map(Instance::address).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn list(&self, service: SimService) -> Vec<Instance> {
        self.registered.get(&service).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    fn change(&mut self, now: Duration, service: SimService, change: impl FnOnce(&mut BTreeMap<SocketAddr, Instance>)) {
        change(self.registered.entry(service).or_default());
        self.push_to_all(now, service);
    }

    /// Schedules a push of the correct list to all clients, each with a random delay.
    fn push_to_all(&mut self, now: Duration, service: SimService) {
        let list: List = self.list(service).into();
        let clients: Vec<usize> = self.views.keys().filter(|view| view.1 == service).map(|view| view.0).collect();
        for client in clients {
            let delay = self.push_delay.mul_f64(self.rng.random::<f64>().powi(3));
            self.schedule(now + delay, client, service, Arc::clone(&list));
        }
    }

    fn schedule(&mut self, at: Duration, client: usize, service: SimService, list: List) {
        self.count += 1;
        self.pending.insert((at, self.count), (client, service, list));
    }
}

/// The registry for one run of a server.
pub(crate) struct ServerView {
    registry: Arc<FakeRegistry>,
    is_cut_off: AtomicBool,
}

impl ServerView {
    pub(crate) fn new(registry: Arc<FakeRegistry>) -> Self {
        Self { registry, is_cut_off: AtomicBool::new(false) }
    }

    /// Lets nothing that the server does from now on reach the registry: its machine has failed.
    pub(crate) fn cut_off(&self) {
        self.is_cut_off.store(true, Ordering::Relaxed);
    }

    /// Changes the list of a service, unless the server is cut off.
    fn change(&self, service: &ServiceId, change: impl FnOnce(&mut BTreeMap<SocketAddr, Instance>)) {
        if !self.is_cut_off.load(Ordering::Relaxed) {
            self.registry.lock().change(now(), SimService::named(service.name()), change);
        }
    }
}

impl Registry for ServerView {
    fn register<'a>(
        &'a self,
        service: &'a ServiceId,
        instance: Instance,
    ) -> BoxFuture<'a, Result<RegisterOutcome, Error>> {
        Box::pin(async move {
            // The server's own metadata contains the real time, which would make the run unrepeatable.
            let instance = Instance::new(instance.address()).with_metadata("started", format!("{:?}", now()));
            self.change(service, |list| drop(list.insert(instance.address(), instance)));
            Ok(RegisterOutcome::Confirmed)
        })
    }

    fn deregister<'a>(&'a self, service: &'a ServiceId, address: SocketAddr) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.change(service, |list| drop(list.remove(&address)));
            Ok(())
        })
    }
}

/// The registry for one client.
pub(crate) struct ClientView {
    registry: Arc<FakeRegistry>,
    client: usize,
}

impl Discovery for ClientView {
    fn watch(&self, service: &ServiceId) -> Addresses {
        let service = SimService::named(service.name());
        let state = &mut *self.registry.lock();
        let receiver = state.views.entry((self.client, service)).or_default().subscribe();
        let delay = state.push_delay.mul_f64(state.rng.random());
        let list = state.list(service).into();
        state.schedule(now() + delay, self.client, service, list);
        receiver
    }

    fn url(&self) -> &str {
        "simulated:"
    }
}
