//! [`Customer`]: a simulated client, which calls while things go wrong, and again when all is well.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rpc_client::{Client, ClientConfig};
use rpc_core::{BoxFuture, Call, CallError, Code, Discovery, Error, Method};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    contract::{ArchiveClient, Errand, Kind, LedgerClient, Receipt, Refusal, Which},
    history::{Called, Ending, History, now},
    network::Network,
};

/// A simulated client.
#[derive(Clone)]
pub(crate) struct Customer {
    /// Its number.
    pub(crate) number: usize,
    /// Its numbers.
    pub(crate) config: ClientConfig,
    /// How many calls it makes at once.
    pub(crate) workers: usize,
    /// When nothing goes wrong any more.
    pub(crate) healed: Duration,
    /// When all is well.
    pub(crate) settled: Duration,
    /// Where what happens is written down.
    pub(crate) history: Arc<History>,
    /// What it does by chance.
    pub(crate) seed: u64,
}

/// The two services as one customer calls them.
#[derive(Clone)]
struct Counter {
    ledger: LedgerClient<Client>,
    archive: ArchiveClient<Client>,
    history: Arc<History>,
    number: usize,
}

/// A call to be made.
struct Order {
    which: Which,
    kind: Kind,
    takes: Duration,
    fails: bool,
    padding: usize,
    timeout: Duration,
    patient: bool,
    affinity: Option<u64>,
    given_up: Option<Duration>,
    must_succeed: bool,
}

impl Customer {
    /// Calls, looks, and closes.
    pub(crate) async fn shop(self, registry: Arc<dyn Discovery>, network: Network) -> turmoil::Result {
        let client = Client::builder().registry(registry).connector(network).config(self.config.clone()).build()?;
        let counter = Counter {
            ledger: LedgerClient::new(client.clone()),
            archive: ArchiveClient::new(client.clone()),
            history: Arc::clone(&self.history),
            number: self.number,
        };
        let mut chance = SmallRng::seed_from_u64(self.seed);
        let mut workers = JoinSet::new();
        for _ in 0..self.workers {
            workers.spawn(work(counter.clone(), SmallRng::from_rng(&mut chance), self.healed));
        }
        while let Some(worked) = workers.join_next().await {
            worked?;
        }
        sleep(self.settled.saturating_sub(now())).await;
        for number in 0..CALLS_WHEN_WELL {
            counter.place(Order::when_well(number)).await;
        }
        for (address, state) in client.endpoints() {
            self.history.sees(self.number, address, state.to_string());
        }
        if timeout(CLOSES_WITHIN, client.close()).await.is_err() {
            self.history.fault(format!("client {} does not close", self.number));
        }
        let order = Order { must_succeed: false, ..Order::when_well(0) };
        let nonce = counter.place(order).await;
        self.history.fault_unless_refused(nonce);
        Ok(())
    }
}

async fn work(counter: Counter, mut chance: SmallRng, until: Duration) {
    while now() < until {
        counter.place(Order::by(&mut chance)).await;
        sleep(Duration::from_millis(chance.random_range(0..60))).await;
    }
}

impl Order {
    fn by(chance: &mut SmallRng) -> Self {
        let ms = Duration::from_millis;
        let kinds = [Kind::Idempotent, Kind::Idempotent, Kind::Plain, Kind::Plain, Kind::OneWay];
        Self {
            which: Which::ALL[chance.random_range(0..2)],
            kind: kinds[chance.random_range(0..kinds.len())],
            takes: if chance.random_bool(0.4) { ms(0) } else { ms(chance.random_range(1..200)) },
            fails: chance.random_bool(0.1),
            padding: if chance.random_bool(0.9) { 0 } else { chance.random_range(0..20_000) },
            timeout: ms(chance.random_range(5..600)),
            patient: chance.random_bool(0.5),
            affinity: chance.random_bool(0.1).then(|| chance.random()),
            given_up: chance.random_bool(0.1).then(|| ms(chance.random_range(0..200))),
            must_succeed: false,
        }
    }

    fn when_well(number: usize) -> Self {
        let kinds = [Kind::Plain, Kind::Idempotent];
        Self {
            which: Which::ALL[number % 2],
            kind: kinds[number / 2 % 2],
            takes: Duration::ZERO,
            fails: false,
            padding: 0,
            timeout: Duration::from_secs(4),
            patient: true,
            affinity: None,
            given_up: None,
            must_succeed: true,
        }
    }
}

impl Counter {
    /// Makes a call and writes down how it ended; gives its nonce.
    async fn place(&self, order: Order) -> u64 {
        let Order { which, kind, takes, fails, padding, must_succeed, .. } = order;
        let (client, at) = (self.number, now());
        let deadline = at + order.timeout;
        let nonce = self.history.calls(Called { client, which, kind, at, deadline, must_succeed, end: None });
        let call = self.call(&order, Errand { nonce, takes, fails, padding });
        let patience = order.given_up.unwrap_or(order.timeout + NEVER_ENDS);
        match timeout(patience, call).await {
            Ok(ending) => self.history.called(nonce, ending),
            Err(_) if order.given_up.is_some() => self.history.called(nonce, Ending::Dropped),
            // It stays without an end.
            Err(_) => {}
        }
        nonce
    }

    fn call(&self, order: &Order, errand: Errand) -> BoxFuture<'static, Ending> {
        let nonce = errand.nonce;
        match (order.which, order.kind) {
            (Which::Ledger, Kind::Idempotent) => answered(order, nonce, self.ledger.read(errand)),
            (Which::Ledger, Kind::Plain) => answered(order, nonce, self.ledger.write(errand)),
            (Which::Ledger, Kind::OneWay) => sent(order, self.ledger.note(errand)),
            (Which::Archive, Kind::Idempotent) => answered(order, nonce, self.archive.read(errand)),
            (Which::Archive, Kind::Plain) => answered(order, nonce, self.archive.write(errand)),
            (Which::Archive, Kind::OneWay) => sent(order, self.archive.note(errand)),
        }
    }
}

fn with_options<M: Method>(order: &Order, call: Call<Client, M>) -> Call<Client, M> {
    let call = call.timeout(order.timeout).wait_for_ready(order.patient);
    match order.affinity {
        Some(key) => call.affinity(key),
        None => call,
    }
}

fn answered<M>(order: &Order, nonce: u64, call: Call<Client, M>) -> BoxFuture<'static, Ending>
where
    M: Method<Outcome = Result<Receipt, CallError<Refusal>>>,
{
    let (call, length) = (with_options(order, call), order.padding);
    Box::pin(async move {
        match call.await {
            Ok(receipt) => {
                let whole = receipt.padding == vec![nonce as u8; length];
                Ending::Answered { nonce: Some(receipt.nonce), whole }
            }
            Err(CallError::Service(refusal)) => Ending::Answered { nonce: Some(refusal.nonce), whole: true },
            Err(CallError::Rpc(error)) => failed(&error),
        }
    })
}

fn sent<M: Method<Outcome = Result<(), Error>>>(order: &Order, call: Call<Client, M>) -> BoxFuture<'static, Ending> {
    let call = with_options(order, call);
    Box::pin(async move {
        match call.await {
            Ok(()) => Ending::Answered { nonce: None, whole: true },
            Err(error) => failed(&error),
        }
    })
}

fn failed(error: &Error) -> Ending {
    Ending::Failed { code: error.code(), delivery: error.delivery(), text: error.to_string() }
}

impl History {
    /// A closed client takes no calls.
    fn fault_unless_refused(&self, nonce: u64) {
        let end = self.events().calls[nonce as usize].end.clone();
        if !matches!(end, Some((_, Ending::Failed { code: Code::Unavailable, .. }))) {
            self.fault(format!("a closed client took call {nonce}: {end:?}"));
        }
    }
}

/// Enough that chance alone leaves out none of three providers.
const CALLS_WHEN_WELL: usize = 40;
/// With nothing in flight, there is nothing to be waited for but the peers' closing their side.
const CLOSES_WITHIN: Duration = Duration::from_secs(3);
/// How long after its deadline a call is taken to have no end.
const NEVER_ENDS: Duration = Duration::from_millis(500);
