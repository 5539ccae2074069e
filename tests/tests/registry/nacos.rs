//! The Nacos registry with real servers: most tests run with r-nacos and with both lines of the official server.

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rpc_core::{Addresses, Code, Discovery as _, Instance, RegisterOutcome, Registry as _, ServiceId};
use rpc_registry::{Backend, Nacos, connect};
use tests::nacos::{ListedInstance, NacosServer, ServerKind};
use tokio::time::{sleep, timeout};

static GREETER: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

/// Defines one test per server kind for each of these functions.
macro_rules! on_every_server {
    ($($test:ident,)*) => {
        on_every_server! { @ r_nacos RNacos: $($test,)* }
        on_every_server! { @ official_2 Official2: $($test,)* }
        on_every_server! { @ official_3 Official3: $($test,)* }
    };
    (@ $server:ident $kind:ident: $($test:ident,)*) => {
        mod $server {
            $(#[tokio::test]
            async fn $test() {
                if super::ServerKind::$kind.is_available() {
                    super::$test(super::ServerKind::$kind).await;
                }
            })*
        }
    };
}

on_every_server! {
    one_server_serves_independent_handles,
    restarts_lose_no_registration_or_deregistration,
    pauses_lose_no_registration_or_deregistration,
    rejected_login_fails_connect,
}

// A server takes longer to start than most cases take. Cases that leave the server alone therefore share one, each with
// services of its own, and so do those that stop it.

async fn one_server_serves_independent_handles(kind: ServerKind) {
    let server = NacosServer::start_kind(kind).await;
    tokio::join!(
        registered_provider_is_listed_and_discovered(&server),
        handle_registers_two_addresses(&server),
        watch_resumes_and_ends_with_its_handle(&server),
        one_live_server_of_two_suffices(&server, kind),
        host_name_is_resolved_to_a_provider(&server),
    );
}

async fn restarts_lose_no_registration_or_deregistration(kind: ServerKind) {
    let mut server = NacosServer::stopped(kind);
    let later = LaterStart::before(&server).await;
    server.restart().await;
    later.after(&server).await;

    let (restart, deregistration) = tokio::join!(Restart::before(&server), OutageDeregistration::before(&server));
    server.kill();
    deregistration.during().await;
    server.restart().await;
    tokio::join!(restart.after(&server, kind), deregistration.after(&server));
}

async fn pauses_lose_no_registration_or_deregistration(kind: ServerKind) {
    let server = NacosServer::start_kind(kind).await;
    paused_server_delays_calls_by_bounded_time(&server).await;
    long_pause_leaves_one_registration(&server).await;
}

/// Returns a service of one case.
fn service(name: &'static str) -> ServiceId {
    ServiceId::from_static(name, "1.0")
}

fn instance(port: u16) -> Instance {
    Instance::new(([127, 0, 0, 1], port).into()).with_weight(2.5).with_metadata("protocol", "msnb")
}

/// Waits for `work` for at most 150 s: after an outage, nacos-sdk alone needs up to a minute to reconnect.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(150), work).await.expect("the work exceeded 150 s")
}

/// Waits until the newest list is `wanted`.
async fn expect(addresses: &mut Addresses, wanted: &[Instance]) {
    in_time(addresses.wait_for(|list| list.as_deref() == Some(wanted))).await.expect("the watch is open");
}

/// Waits until the server lists exactly these addresses.
async fn expect_listed(server: &NacosServer, service: &ServiceId, wanted: &[SocketAddr]) -> Vec<ListedInstance> {
    let same = |listed: &[ListedInstance]| listed.iter().map(ListedInstance::address).eq(wanted.iter().copied());
    in_time(server.wait_for(service, same)).await
}

async fn registered_provider_is_listed_and_discovered(server: &NacosServer) {
    let (provider, consumer) = (connect(&server.url()).await.unwrap(), connect(&server.url()).await.unwrap());
    assert_eq!(consumer.url(), server.url());
    assert!(provider.reachable_ip().await.unwrap().is_loopback());
    let mut addresses = consumer.watch(&GREETER);
    expect(&mut addresses, &[]).await;

    in_time(provider.register(&GREETER, instance(7001))).await.unwrap();
    let listed = expect_listed(server, &GREETER, &[instance(7001).address()]).await;
    assert_eq!(listed[0].weight, 2.5);
    let metadata = BTreeMap::from([("protocol", "msnb"), ("weight", "2.5")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    assert_eq!(listed[0].metadata, metadata);
    expect(&mut addresses, &[instance(7001)]).await;

    // A later client receives the instance, and an open watch receives changes.
    expect(&mut connect(&server.url()).await.unwrap().watch(&GREETER), &[instance(7001)]).await;
    in_time(provider.register(&GREETER, instance(7001).with_weight(4.0))).await.unwrap();
    expect(&mut addresses, &[instance(7001).with_weight(4.0)]).await;

    in_time(provider.deregister(&GREETER, instance(7001).address())).await.unwrap();
    in_time(provider.deregister(&GREETER, instance(7001).address())).await.unwrap();
    expect_listed(server, &GREETER, &[]).await;
    expect(&mut addresses, &[]).await;
}

async fn handle_registers_two_addresses(server: &NacosServer) {
    let (one, other) = (service("two.One"), service("two.Other"));
    let registry = connect(&server.url()).await.unwrap();
    let both = [instance(7001).address(), instance(7002).address()];
    let registered = in_time(async {
        tokio::join!(
            registry.register(&one, instance(7001)),
            registry.register(&one, instance(7002)),
            registry.register(&other, instance(7001)),
        )
    });
    assert!(matches!(registered.await, (Ok(_), Ok(_), Ok(_))));
    expect_listed(server, &one, &both).await;
    expect_listed(server, &other, &both[..1]).await;

    in_time(registry.deregister(&one, both[0])).await.unwrap();
    expect_listed(server, &one, &both[1..]).await;
    expect_listed(server, &other, &both[..1]).await;

    drop(registry);
    expect_listed(server, &one, &[]).await;
    expect_listed(server, &other, &[]).await;
}

async fn watch_resumes_and_ends_with_its_handle(server: &NacosServer) {
    let resumed = service("demo.Resumed");
    let registry = connect(&server.url()).await.unwrap();
    for port in 7001..=7002 {
        let mut addresses = registry.watch(&resumed);
        in_time(registry.register(&resumed, instance(port))).await.unwrap();
        let all: Vec<_> = (7001..=port).map(instance).collect();
        expect(&mut addresses, &all).await;
    }
    let mut addresses = registry.watch(&resumed);
    drop(registry);
    in_time(async { while addresses.changed().await.is_ok() {} }).await;
}

async fn one_live_server_of_two_suffices(server: &NacosServer, kind: ServerKind) {
    let (absent, one) = (NacosServer::stopped(kind), service("demo.OneOfTwo"));
    let url = format!("{},{}", absent.url(), server.url().trim_start_matches("nacos://"));
    let registry = connect(&url).await.unwrap();
    let mut addresses = registry.watch(&one);
    in_time(registry.register(&one, instance(7001))).await.unwrap();
    expect_listed(server, &one, &[instance(7001).address()]).await;
    expect(&mut addresses, &[instance(7001)]).await;
}

/// Another program registers a host name instead of an IP address.
async fn host_name_is_resolved_to_a_provider(server: &NacosServer) {
    let (registry, named) = (connect(&server.url()).await.unwrap(), service("demo.Named"));
    let mut addresses = registry.watch(&named);
    expect(&mut addresses, &[]).await;
    let listed = ListedInstance {
        ip: "localhost".to_owned(),
        port: 7001,
        weight: 1.0,
        healthy: true,
        enabled: true,
        metadata: BTreeMap::new(),
    };
    server.register(&named, &listed).await;
    expect(&mut addresses, &[Instance::new(instance(7001).address())]).await;
}

/// A handle that is opened before its server.
struct LaterStart {
    registry: Arc<dyn Backend>,
    addresses: Addresses,
    service: ServiceId,
}

impl LaterStart {
    async fn before(server: &NacosServer) -> Self {
        let (registry, service) = (connect(&server.url()).await.unwrap(), service("demo.Later"));
        let mut addresses = registry.watch(&service);
        in_time(registry.register(&service, instance(7001))).await.unwrap();
        in_time(registry.register(&service, instance(7002))).await.unwrap();
        in_time(registry.deregister(&service, instance(7002).address())).await.unwrap();
        assert!(addresses.borrow_and_update().is_none());
        Self { registry, addresses, service }
    }

    async fn after(mut self, server: &NacosServer) {
        expect_listed(server, &self.service, &[instance(7001).address()]).await;
        expect(&mut self.addresses, &[instance(7001)]).await;
        drop(self.registry);
    }
}

/// One address has three services, the other has one.
struct Restart {
    registry: Nacos,
    addresses: Addresses,
    services: [ServiceId; 3],
}

impl Restart {
    async fn before(server: &NacosServer) -> Self {
        let registry = Nacos::connect(&server.url()).await.unwrap();
        let services = ["restart.One", "restart.Two", "restart.Three"].map(service);
        let mut addresses = registry.watch(&services[0]);
        for service in &services {
            in_time(registry.register(service, instance(7001))).await.unwrap();
        }
        in_time(registry.register(&services[0], instance(7002))).await.unwrap();
        expect(&mut addresses, &[instance(7001), instance(7002)]).await;
        Self { registry, addresses, services }
    }

    async fn after(mut self, server: &NacosServer, kind: ServerKind) {
        let (ready, both) = (Instant::now(), [instance(7001), instance(7002)]);
        expect_listed(server, &self.services[0], &both.clone().map(|instance| instance.address())).await;
        for service in &self.services[1..] {
            expect_listed(server, service, &[instance(7001).address()]).await;
        }
        eprintln!("{kind:?}: all instances listed {:?} after the restarted server was ready", ready.elapsed());
        // The watch receives further changes.
        in_time(self.registry.register(&self.services[0], instance(7003))).await.unwrap();
        expect(&mut self.addresses, &[both.as_slice(), &[instance(7003)]].concat()).await;
    }
}

/// A provider that deregisters one of its two services while the server is down.
struct OutageDeregistration {
    registry: Nacos,
    removed: ServiceId,
    kept: ServiceId,
}

impl OutageDeregistration {
    async fn before(server: &NacosServer) -> Self {
        let registry = Nacos::connect(&server.url()).await.unwrap();
        let (removed, kept) = (service("outage.Removed"), service("outage.Kept"));
        in_time(registry.register(&removed, instance(7001))).await.unwrap();
        in_time(registry.register(&kept, instance(7001))).await.unwrap();
        expect_listed(server, &removed, &[instance(7001).address()]).await;
        Self { registry, removed, kept }
    }

    async fn during(&self) {
        let error = in_time(self.registry.deregister(&self.removed, instance(7001).address())).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
    }

    async fn after(self, server: &NacosServer) {
        // The same connection registers the other service again, but not this one.
        expect_listed(server, &self.kept, &[instance(7001).address()]).await;
        expect_listed(server, &self.removed, &[]).await;
        // The instance stays removed once the server confirms the deregistration.
        while in_time(self.registry.deregister(&self.removed, instance(7001).address())).await.is_err() {}
        expect_listed(server, &self.removed, &[]).await;
    }
}

/// r-nacos lists one instance per address, and removes it when any process that registered the address leaves. An official
/// server lists one instance per process.
#[tokio::test]
async fn provider_restores_instance_removed_by_other_process() {
    let server = NacosServer::start().await;
    let registry = Nacos::connect(&server.url()).await.unwrap();
    in_time(registry.register(&GREETER, instance(7001))).await.unwrap();
    expect_listed(&server, &GREETER, &[instance(7001).address()]).await;
    assert_eq!(registry.unlisted_count(), 0);

    // Another process registers the same address, and leaves.
    let other = connect(&server.url()).await.unwrap();
    let same_address = instance(7001).with_metadata("started", "later");
    in_time(other.register(&GREETER, same_address)).await.unwrap();
    in_time(other.deregister(&GREETER, instance(7001).address())).await.unwrap();
    expect_listed(&server, &GREETER, &[]).await;
    expect_listed(&server, &GREETER, &[instance(7001).address()]).await;
    assert_eq!(registry.unlisted_count(), 1);
}

async fn paused_server_delays_calls_by_bounded_time(server: &NacosServer) {
    let registry = connect(&server.url()).await.unwrap();
    let mut addresses = registry.watch(&GREETER);
    in_time(registry.register(&GREETER, instance(7001))).await.unwrap();
    expect(&mut addresses, &[instance(7001)]).await;

    server.pause();
    in_time(registry.register(&GREETER, instance(7002))).await.unwrap();
    let error = in_time(registry.deregister(&GREETER, instance(7001).address())).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(addresses.borrow().as_deref(), Some(&[instance(7001)][..]));
    server.resume();
    expect_listed(server, &GREETER, &[instance(7002).address()]).await;
    expect(&mut addresses, &[instance(7002)]).await;
}

/// The pause exceeds the time after which nacos-sdk replaces its connection, which the server still keeps.
async fn long_pause_leaves_one_registration(server: &NacosServer) {
    let (one, other) = (service("pause.One"), service("pause.Other"));
    let registry = connect(&server.url()).await.unwrap();
    in_time(registry.register(&one, instance(7001))).await.unwrap();
    expect_listed(server, &one, &[instance(7001).address()]).await;

    server.pause();
    sleep(Duration::from_secs(30)).await;
    server.resume();
    // The new connection registers another service.
    while in_time(registry.register(&other, instance(7001))).await.unwrap() != RegisterOutcome::Confirmed {}
    expect_listed(server, &other, &[instance(7001).address()]).await;
    expect_listed(server, &one, &[instance(7001).address()]).await;
    while in_time(registry.deregister(&one, instance(7001).address())).await.is_err() {}
    expect_listed(server, &one, &[]).await;
    in_time(registry.deregister(&other, instance(7001).address())).await.unwrap();
    expect_listed(server, &other, &[]).await;
    // Meanwhile every connection has sent to the server, and none has registered an instance.
    sleep(Duration::from_secs(10)).await;
    assert_eq!((server.instances(&one).await, server.instances(&other).await), (vec![], vec![]));
}

async fn rejected_login_fails_connect(kind: ServerKind) {
    let server = NacosServer::start_with_user(kind).await;
    let (user, password) = server.credentials();
    let url = |user, password| format!("{}?username={user}&password={password}", server.url());

    for (user, password) in [(user, "wrong-word"), ("nobody", "wrong-word")] {
        let error = in_time(connect(&url(user, password))).await.err().unwrap();
        assert_eq!(error.code(), Code::Unauthenticated);
        let text = format!("{error} {error:?}");
        assert!(text.contains(&format!("`{user}`")) && !text.contains("wrong-word"), "{text}");
    }

    let anonymous = connect(&server.url()).await.unwrap();
    let error = in_time(anonymous.register(&GREETER, instance(7001))).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);

    let registry = Nacos::connect(&url(user, password)).await.unwrap();
    assert!(!format!("{registry:?} {}", registry.url()).contains(&format!("password={password}")));
    let mut addresses = registry.watch(&GREETER);
    in_time(registry.register(&GREETER, instance(7001))).await.unwrap();
    expect(&mut addresses, &[instance(7001)]).await;
}

#[tokio::test]
async fn invalid_instances_fail_before_request() {
    // The server does not run, so the client detects the error.
    let server = NacosServer::stopped(ServerKind::RNacos);
    let registry = connect(&server.url()).await.unwrap();
    let long_metadata = instance(7001).with_metadata("long", "x".repeat(1025));
    let unspecified = Instance::new("0.0.0.0:7001".parse().unwrap());
    for bad in [long_metadata, unspecified] {
        let error = in_time(registry.register(&GREETER, bad)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    let bad_name = ServiceId::from_static("white space", "1.0");
    let error = in_time(registry.register(&bad_name, instance(7001))).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}
