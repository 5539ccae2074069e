//! The cost of the data structures between a proxy and a handler: in-flight table, load balancer and dispatcher.
//!
//! These modules are private to their crates, so this program includes their files.

use std::{sync::atomic::AtomicUsize, task::Waker, time::Duration};

use bytes::Bytes;
use divan::{Bencher, black_box};
use rand::{SeedableRng, rngs::SmallRng};
use rpc_core::{
    BoxFuture, MethodInfo, Payload, Responder, Service, ServiceId,
    frame::{Frame, FrameType, Header},
    head::{CallFlags, RequestHead, RequestHeadRef, Route},
};
use tokio::time::Instant;

use self::{
    balance::{Balance, Weights},
    dispatcher::Dispatcher,
    in_flight::{InFlightTable, NewCall, Outcome},
};

#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../../rpc-client/src/discovery/balance.rs"]
mod balance;
#[allow(dead_code, unused_imports)]
#[path = "../../rpc-server/src/call/dispatcher.rs"]
mod dispatcher;
#[allow(dead_code, unused_imports)]
#[path = "../../rpc-client/src/connection/in_flight/mod.rs"]
mod in_flight;

/// Stub of the module that plants bugs in tests: it plants none.
mod planted {
    pub(crate) enum Bug {
        LastProviderNeverChosen,
        TimedOutIdReused,
        AnswerToAnotherCall,
    }

    pub(crate) const fn planted(_: Bug) -> bool {
        false
    }
}

fn main() {
    divan::main();
}

const IN_FLIGHT: [usize; 3] = [1, 512, 65_536];
const PROVIDERS: [usize; 4] = [1, 10, 100, 1_000];
const ROUTES: [usize; 3] = [1, 100, 10_000];

/// Adds calls that are never answered.
fn fill(table: &mut InFlightTable, calls: usize) {
    for _ in 0..calls {
        table.insert(call(far())).expect("the table has a free slot");
    }
}

fn call(deadline: Instant) -> NewCall<'static> {
    NewCall { deadline, hedge_at: None, has_waited: false, waker: Waker::noop() }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// One call from its entry into the table to its outcome, among `others` pending calls.
#[divan::bench(args = IN_FLIGHT)]
fn in_flight_call(bencher: Bencher<'_, '_>, others: usize) {
    let mut table = InFlightTable::new(InFlightTable::MAX);
    fill(&mut table, others);
    let deadline = far();
    let frame = Frame { header: Header::empty(FrameType::Response, 0), body: Bytes::from_static(&[0, 0]) };
    bencher.bench_local(|| {
        let id = table.insert(call(deadline)).expect("the table has a free slot");
        black_box(table.deliver(id.as_u32(), Outcome::Response(frame.clone())));
        black_box(table.poll(id, Waker::noop()))
    });
}

/// One expiry check without a due call, as in each iteration of a connection driver.
#[divan::bench(args = IN_FLIGHT)]
fn in_flight_expire(bencher: Bencher<'_, '_>, others: usize) {
    let mut table = InFlightTable::new(InFlightTable::MAX);
    fill(&mut table, others);
    let now = Instant::now();
    bencher.bench_local(|| table.expire(black_box(now), |_, _| unreachable!("no call is due")));
}

fn balance(bencher: Bencher<'_, '_>, balance: Balance, weights: Vec<f64>) {
    let (weights, turn) = (Weights::new(weights), AtomicUsize::new(0));
    let mut random = SmallRng::seed_from_u64(7);
    bencher.bench_local(|| balance.pick(&weights, &turn, &mut random, |index| Some(black_box(index))));
}

#[divan::bench(args = PROVIDERS)]
fn balance_two_choices(bencher: Bencher<'_, '_>, providers: usize) {
    balance(bencher, Balance::PowerOfTwoChoices, vec![1.0; providers]);
}

#[divan::bench(args = PROVIDERS)]
fn balance_two_choices_weighted(bencher: Bencher<'_, '_>, providers: usize) {
    balance(bencher, Balance::PowerOfTwoChoices, (1..=providers).map(|weight| weight as f64).collect());
}

#[divan::bench(args = PROVIDERS)]
fn balance_round_robin(bencher: Bencher<'_, '_>, providers: usize) {
    balance(bencher, Balance::RoundRobin, vec![1.0; providers]);
}

/// Selects the provider of a key, which evaluates every provider.
#[divan::bench(args = PROVIDERS)]
fn balance_affinity(bencher: Bencher<'_, '_>, providers: usize) {
    use std::hash::BuildHasher;
    let weights = Weights::new(vec![1.0; providers]);
    let state = foldhash::quality::FixedState::default();
    bencher.bench_local(|| weights.rendezvous(|index| state.hash_one((black_box(7_u64), index)), |_| true));
}

#[divan::bench(args = ROUTES)]
fn dispatch(bencher: Bencher<'_, '_>, routes: usize) {
    let id = || ServiceId::new("bench.Echo", "1.0").expect("the name is valid");
    let methods = (0..routes).map(|number| MethodInfo::new(id(), &format!("echo{number}"))).collect();
    let mut dispatcher = Dispatcher::default();
    dispatcher.add(std::sync::Arc::new(Silent { id: id(), methods })).expect("routes are unique");
    let route = route(&format!("bench.Echo:1.0/echo{}", routes - 1));
    bencher.bench_local(|| dispatcher.find(black_box(&route)).is_ok());
}

/// Returns a route as decoded from the wire.
fn route(text: &str) -> Route {
    let mut out = bytes::BytesMut::new();
    let metadata = Default::default();
    let flags = CallFlags::default();
    RequestHeadRef { route: text, timeout: None, flags, metadata: &metadata, idempotency_key: None, repeat: false }
        .write(&mut out);
    RequestHead::take(&mut out.freeze()).expect("the head is valid").route
}

/// A service that is never called.
struct Silent {
    id: ServiceId,
    methods: Vec<MethodInfo>,
}

impl Service for Silent {
    fn id(&self) -> &ServiceId {
        &self.id
    }

    fn methods(&self) -> &[MethodInfo] {
        &self.methods
    }

    fn call(&self, _: usize, _: Payload, responder: Responder) -> BoxFuture<'static, ()> {
        drop(responder);
        Box::pin(std::future::ready(()))
    }
}
