//! [`FakeRegistry`]: knows the truth, and tells it late, in part, or not at all.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rpc_core::{Addresses, BoxFuture, Discovery, Error, Instance, RegisterOutcome, Registry, ServiceId};
use tokio::sync::watch;

use super::{
    contract::Which,
    history::{History, Push, now},
};

type List = Arc<[Instance]>;

/// A registry outside the simulated network.
pub(crate) struct FakeRegistry {
    state: Mutex<State>,
    history: Arc<History>,
}

struct State {
    chance: SmallRng,
    /// How long the truth is under way at most.
    lateness: Duration,
    /// The addresses that are given to consumers besides the truth.
    wrong: Vec<SocketAddr>,
    truth: BTreeMap<Which, BTreeMap<SocketAddr, Instance>>,
    views: BTreeMap<(usize, Which), watch::Sender<Option<List>>>,
    under_way: BTreeMap<(Duration, u64), (usize, Which, List)>,
    count: u64,
}

/// What the registry says instead of the truth.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lie {
    /// Nobody is there.
    Empty,
    /// Some are there who are not.
    Wrong,
    /// Only some of those who are there.
    Partial,
    /// As it was, but all of it changed.
    Anew,
    /// The truth.
    Truth,
}

impl FakeRegistry {
    /// A registry that knows nothing yet.
    pub(crate) fn new(history: Arc<History>, seed: u64, lateness: Duration, wrong: Vec<SocketAddr>) -> Arc<Self> {
        let state = State {
            chance: SmallRng::seed_from_u64(seed),
            lateness,
            wrong,
            truth: BTreeMap::new(),
            views: BTreeMap::new(),
            under_way: BTreeMap::new(),
            count: 0,
        };
        Arc::new(Self { state: Mutex::new(state), history })
    }

    /// The registry as `client` sees it.
    pub(crate) fn view(self: &Arc<Self>, client: usize) -> Arc<View> {
        Arc::new(View { registry: Arc::clone(self), client })
    }

    /// Delivers what is due.
    pub(crate) fn tick(&self, now: Duration) {
        loop {
            let mut state = self.lock();
            let Some(first) = state.under_way.first_entry().filter(|first| first.key().0 <= now) else { return };
            let (client, which, list) = first.remove();
            let Some(view) = state.views.get(&(client, which)) else { continue };
            let addresses = list.iter().map(Instance::address).collect();
            self.history.pushes(Push { client, which, at: now, list: addresses });
            view.send_replace(Some(list));
        }
    }

    /// Says something to one client at once.
    pub(crate) fn say(&self, now: Duration, client: usize, which: Which, lie: Lie) {
        let state = &mut *self.lock();
        let mut list = state.list(which);
        match lie {
            Lie::Empty => list.clear(),
            Lie::Wrong => {
                let chance = &mut state.chance;
                list.extend(state.wrong.iter().filter(|_| chance.random_bool(0.4)).copied().map(Instance::new));
            }
            Lie::Partial => list.retain(|_| state.chance.random_bool(0.5)),
            Lie::Anew => list = list.into_iter().map(|one| one.with_metadata("anew", format!("{now:?}"))).collect(),
            Lie::Truth => {}
        }
        state.send(now, client, which, list.into());
    }

    /// Tells the truth to everyone, and nothing else from now on.
    pub(crate) fn heal(&self, now: Duration) {
        let state = &mut *self.lock();
        state.under_way.clear();
        state.lateness = Duration::ZERO;
        for which in Which::ALL {
            state.tell(now, which);
        }
    }

    /// Takes off the list who went without a word.
    pub(crate) fn forget(&self, now: Duration, address: SocketAddr) {
        for which in Which::ALL {
            self.lock().change(now, which, |list| drop(list.remove(&address)));
        }
    }

    /// Who is there in truth.
    pub(crate) fn truth(&self, which: Which) -> Vec<SocketAddr> {
        self.lock().list(which).iter().map(Instance::address).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn list(&self, which: Which) -> Vec<Instance> {
        self.truth.get(&which).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    fn change(&mut self, now: Duration, which: Which, change: impl FnOnce(&mut BTreeMap<SocketAddr, Instance>)) {
        change(self.truth.entry(which).or_default());
        self.tell(now, which);
    }

    /// Sends the truth to everyone; it takes its time.
    fn tell(&mut self, now: Duration, which: Which) {
        let list: List = self.list(which).into();
        let clients: Vec<usize> = self.views.keys().filter(|view| view.1 == which).map(|view| view.0).collect();
        for client in clients {
            let late = self.lateness.mul_f64(self.chance.random::<f64>().powi(3));
            self.send(now + late, client, which, Arc::clone(&list));
        }
    }

    fn send(&mut self, at: Duration, client: usize, which: Which, list: List) {
        self.count += 1;
        self.under_way.insert((at, self.count), (client, which, list));
    }
}

impl Registry for FakeRegistry {
    fn register<'a>(
        &'a self,
        service: &'a ServiceId,
        instance: Instance,
    ) -> BoxFuture<'a, Result<RegisterOutcome, Error>> {
        Box::pin(async move {
            // What a server says of itself holds the real time.
            let instance = Instance::new(instance.address()).with_metadata("started", format!("{:?}", now()));
            self.lock().change(now(), Which::named(service.name()), |list| {
                list.insert(instance.address(), instance);
            });
            Ok(RegisterOutcome::Confirmed)
        })
    }

    fn deregister<'a>(&'a self, service: &'a ServiceId, address: SocketAddr) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.lock().change(now(), Which::named(service.name()), |list| drop(list.remove(&address)));
            Ok(())
        })
    }
}

/// The registry as one client sees it.
pub(crate) struct View {
    registry: Arc<FakeRegistry>,
    client: usize,
}

impl Discovery for View {
    fn watch(&self, service: &ServiceId) -> Addresses {
        let which = Which::named(service.name());
        let state = &mut *self.registry.lock();
        let receiver = state.views.entry((self.client, which)).or_default().subscribe();
        let late = state.lateness.mul_f64(state.chance.random());
        let list = state.list(which).into();
        state.send(now() + late, self.client, which, list);
        receiver
    }

    fn url(&self) -> &str {
        "simulated:"
    }
}
