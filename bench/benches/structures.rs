//! The cost of the data structures between a proxy and a handler: in-flight table, load balancer and dispatcher.
//!
//! These structures are private to their crates, which expose them with the feature `bench`.

use std::time::Duration;

use bytes::Bytes;
use divan::{Bencher, black_box};
use rand::{SeedableRng, rngs::SmallRng};
use rpc_client::{
    Balance,
    bench::{InFlightCalls, RoutedProviders, WeightedProviders},
};
use rpc_core::{
    BoxFuture, MethodInfo, Payload, Responder, Service, ServiceId,
    frame::{Frame, FrameType, Header},
    head::{CallFlags, RequestHead, RequestHeadRef, Route},
};
use rpc_server::bench::Routes;
use tokio::time::Instant;

fn main() {
    divan::main();
}

const IN_FLIGHT: [usize; 3] = [1, 512, 65_536];
const PROVIDERS: [usize; 4] = [1, 10, 100, 1_000];
const ROUTES: [usize; 3] = [1, 100, 10_000];

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// One call from its entry into the table to its outcome, among `others` pending calls.
#[divan::bench(args = IN_FLIGHT)]
fn in_flight_call(bencher: Bencher<'_, '_>, others: usize) {
    let deadline = far();
    let mut calls = InFlightCalls::with_calls(others, deadline);
    let frame = Frame { header: Header::empty(FrameType::Response, 0), body: Bytes::from_static(&[0, 0]) };
    bencher.bench_local(|| {
        let call = calls.insert(deadline).expect("the table has a free slot");
        black_box(calls.deliver(call, frame.clone()));
        black_box(calls.poll(call))
    });
}

/// One expiry check without a due call, as in each iteration of a connection driver.
#[divan::bench(args = IN_FLIGHT)]
fn in_flight_expire(bencher: Bencher<'_, '_>, others: usize) {
    let mut calls = InFlightCalls::with_calls(others, far());
    let now = Instant::now();
    bencher.bench_local(|| calls.expire(black_box(now)));
}

fn balance(bencher: Bencher<'_, '_>, balance: Balance, weights: Vec<f64>) {
    let providers = WeightedProviders::new(weights);
    let mut random = SmallRng::seed_from_u64(7);
    bencher.bench_local(|| providers.pick(balance, &mut random, |index| Some(black_box(index))));
}

#[divan::bench(args = PROVIDERS)]
fn balance_two_choices(bencher: Bencher<'_, '_>, providers: usize) {
    balance(bencher, Balance::PowerOfTwoChoices, vec![1.0; providers]);
}

#[divan::bench(args = PROVIDERS)]
fn balance_latency_aware(bencher: Bencher<'_, '_>, providers: usize) {
    balance(bencher, Balance::LatencyAware, vec![1.0; providers]);
}

#[divan::bench(args = PROVIDERS)]
fn balance_two_choices_weighted(bencher: Bencher<'_, '_>, providers: usize) {
    balance(bencher, Balance::PowerOfTwoChoices, (1..=providers).map(|weight| weight as f64).collect());
}

#[divan::bench(args = PROVIDERS)]
fn balance_round_robin(bencher: Bencher<'_, '_>, providers: usize) {
    balance(bencher, Balance::RoundRobin, vec![1.0; providers]);
}

/// Selects a connected provider with zones, tags and slow starts, by calls in flight and latency.
#[divan::bench(args = PROVIDERS)]
fn balance_routed(bencher: Bencher<'_, '_>, providers: usize) {
    let providers = RoutedProviders::new(providers);
    bencher.bench_local(|| providers.pick(black_box(Balance::default()), black_box(None)));
}

/// As [`balance_routed`], by calls in flight times latency.
#[divan::bench(args = PROVIDERS)]
fn balance_routed_by_peak(bencher: Bencher<'_, '_>, providers: usize) {
    let providers = RoutedProviders::new(providers);
    bencher.bench_local(|| providers.pick(black_box(Balance::PeakEwma), black_box(None)));
}

/// Selects the provider of a key, which evaluates every provider.
#[divan::bench(args = PROVIDERS)]
fn balance_affinity(bencher: Bencher<'_, '_>, providers: usize) {
    let providers = WeightedProviders::new(vec![1.0; providers]);
    bencher.bench_local(|| providers.pick_by_key(black_box(7)));
}

#[divan::bench(args = ROUTES)]
fn dispatch(bencher: Bencher<'_, '_>, routes: usize) {
    let id = || ServiceId::new("bench.Echo", "1.0").expect("the name is valid");
    let methods = (0..routes).map(|number| MethodInfo::new(id(), &format!("echo{number}"))).collect();
    let table = Routes::of(UncalledService { id: id(), methods }).expect("routes are unique");
    let route = route(&format!("bench.Echo:1.0/echo{}", routes - 1));
    bencher.bench_local(|| table.find(black_box(&route)));
}

/// Returns a route as decoded from the wire.
fn route(text: &str) -> Route {
    let mut out = bytes::BytesMut::new();
    let metadata = Default::default();
    let flags = CallFlags::default();
    RequestHeadRef {
        route: text,
        timeout: None,
        flags,
        metadata: &metadata,
        once_key: None,
        repeat: false,
        response_compression: None,
        stream_timeout: None,
    }
    .write(&mut out);
    RequestHead::take(&mut out.freeze()).expect("the head is valid").route
}

/// A service that is never called.
struct UncalledService {
    id: ServiceId,
    methods: Vec<MethodInfo>,
}

impl Service for UncalledService {
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
