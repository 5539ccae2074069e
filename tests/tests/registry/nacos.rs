//! The Nacos registry with real servers: most tests run with r-nacos and with both lines of the official server.

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rpc_core::{Addresses, Code, Discovery as _, Instance, RegisterOutcome, Registry as _, ServiceId};
use rpc_registry::{Nacos, connect};
use tests::nacos::{ListedInstance, NacosServer, ServerKind};
use tokio::time::{sleep, timeout};

static GREETER: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");
static OTHER: ServiceId = ServiceId::from_static("demo.Other", "1.0");
static THIRD: ServiceId = ServiceId::from_static("demo.Third", "1.0");

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
    registered_provider_is_listed_and_discovered,
    handle_registers_two_addresses,
    watch_resumes_and_ends_with_its_handle,
    restarted_server_lists_providers_again,
    later_started_server_receives_registrations,
    one_live_server_of_two_suffices,
    deregistration_during_outage_takes_effect,
    paused_server_delays_calls_by_bounded_time,
    long_pause_leaves_one_registration,
    rejected_login_fails_connect,
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

async fn registered_provider_is_listed_and_discovered(kind: ServerKind) {
    let server = NacosServer::start_kind(kind).await;
    let (provider, consumer) = (connect(&server.url()).await.unwrap(), connect(&server.url()).await.unwrap());
    assert_eq!(consumer.url(), server.url());
    assert!(provider.reachable_ip().await.unwrap().is_loopback());
    let mut addresses = consumer.watch(&GREETER);
    expect(&mut addresses, &[]).await;

    in_time(provider.register(&GREETER, instance(7001))).await.unwrap();
    let listed = expect_listed(&server, &GREETER, &[instance(7001).address()]).await;
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
    expect_listed(&server, &GREETER, &[]).await;
    expect(&mut addresses, &[]).await;
}

async fn handle_registers_two_addresses(kind: ServerKind) {
    let server = NacosServer::start_kind(kind).await;
    let registry = connect(&server.url()).await.unwrap();
    let both = [instance(7001).address(), instance(7002).address()];
    let registered = in_time(async {
        tokio::join!(
            registry.register(&GREETER, instance(7001)),
            registry.register(&GREETER, instance(7002)),
            registry.register(&OTHER, instance(7001)),
        )
    });
    assert!(matches!(registered.await, (Ok(_), Ok(_), Ok(_))));
    expect_listed(&server, &GREETER, &both).await;
    expect_listed(&server, &OTHER, &both[..1]).await;

    in_time(registry.deregister(&GREETER, both[0])).await.unwrap();
    expect_listed(&server, &GREETER, &both[1..]).await;
    expect_listed(&server, &OTHER, &both[..1]).await;

    drop(registry);
    expect_listed(&server, &GREETER, &[]).await;
    expect_listed(&server, &OTHER, &[]).await;
}

async fn watch_resumes_and_ends_with_its_handle(kind: ServerKind) {
    let server = NacosServer::start_kind(kind).await;
    let registry = connect(&server.url()).await.unwrap();
    for port in 7001..=7002 {
        let mut addresses = registry.watch(&GREETER);
        in_time(registry.register(&GREETER, instance(port))).await.unwrap();
        let all: Vec<_> = (7001..=port).map(instance).collect();
        expect(&mut addresses, &all).await;
    }
    let mut addresses = registry.watch(&GREETER);
    drop(registry);
    in_time(async { while addresses.changed().await.is_ok() {} }).await;
}

async fn restarted_server_lists_providers_again(kind: ServerKind) {
    let mut server = NacosServer::start_kind(kind).await;
    let registry = Nacos::connect(&server.url()).await.unwrap();
    let mut addresses = registry.watch(&GREETER);
    // One address has three services, the other has one.
    let services = [&GREETER, &OTHER, &THIRD];
    for service in services {
        in_time(registry.register(service, instance(7001))).await.unwrap();
    }
    in_time(registry.register(&GREETER, instance(7002))).await.unwrap();
    let both = [instance(7001), instance(7002)];
    expect(&mut addresses, &both).await;

    server.restart().await;
    let ready = Instant::now();
    expect_listed(&server, &GREETER, &both.clone().map(|instance| instance.address())).await;
    for service in &services[1..] {
        expect_listed(&server, service, &[instance(7001).address()]).await;
    }
    eprintln!("{kind:?}: all instances listed {:?} after the restarted server was ready", ready.elapsed());
    // The watch receives further changes.
    in_time(registry.register(&GREETER, instance(7003))).await.unwrap();
    expect(&mut addresses, &[both.as_slice(), &[instance(7003)]].concat()).await;
}

async fn later_started_server_receives_registrations(kind: ServerKind) {
    let mut server = NacosServer::stopped(kind);
    let registry = connect(&server.url()).await.unwrap();
    let mut addresses = registry.watch(&GREETER);
    in_time(registry.register(&GREETER, instance(7001))).await.unwrap();
    in_time(registry.register(&GREETER, instance(7002))).await.unwrap();
    in_time(registry.deregister(&GREETER, instance(7002).address())).await.unwrap();
    assert!(addresses.borrow_and_update().is_none());

    server.restart().await;
    expect_listed(&server, &GREETER, &[instance(7001).address()]).await;
    expect(&mut addresses, &[instance(7001)]).await;
}

async fn one_live_server_of_two_suffices(kind: ServerKind) {
    let (server, absent) = (NacosServer::start_kind(kind).await, NacosServer::stopped(kind));
    let url = format!("{},{}", absent.url(), server.url().trim_start_matches("nacos://"));
    let registry = connect(&url).await.unwrap();
    let mut addresses = registry.watch(&GREETER);
    in_time(registry.register(&GREETER, instance(7001))).await.unwrap();
    expect_listed(&server, &GREETER, &[instance(7001).address()]).await;
    expect(&mut addresses, &[instance(7001)]).await;
}

async fn deregistration_during_outage_takes_effect(kind: ServerKind) {
    let mut server = NacosServer::start_kind(kind).await;
    let registry = Nacos::connect(&server.url()).await.unwrap();
    in_time(registry.register(&GREETER, instance(7001))).await.unwrap();
    in_time(registry.register(&OTHER, instance(7001))).await.unwrap();
    expect_listed(&server, &GREETER, &[instance(7001).address()]).await;

    server.kill();
    let error = in_time(registry.deregister(&GREETER, instance(7001).address())).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    server.restart().await;

    // The same connection registers the other service again, but not this one.
    expect_listed(&server, &OTHER, &[instance(7001).address()]).await;
    expect_listed(&server, &GREETER, &[]).await;
    // The instance stays removed once the server confirms the deregistration.
    while in_time(registry.deregister(&GREETER, instance(7001).address())).await.is_err() {}
    expect_listed(&server, &GREETER, &[]).await;
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

async fn paused_server_delays_calls_by_bounded_time(kind: ServerKind) {
    let server = NacosServer::start_kind(kind).await;
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
    expect_listed(&server, &GREETER, &[instance(7002).address()]).await;
    expect(&mut addresses, &[instance(7002)]).await;
}

/// The pause exceeds the time after which nacos-sdk replaces its connection, which the server still keeps.
async fn long_pause_leaves_one_registration(kind: ServerKind) {
    let server = NacosServer::start_kind(kind).await;
    let registry = connect(&server.url()).await.unwrap();
    in_time(registry.register(&GREETER, instance(7001))).await.unwrap();
    expect_listed(&server, &GREETER, &[instance(7001).address()]).await;

    server.pause();
    sleep(Duration::from_secs(30)).await;
    server.resume();
    // The new connection registers another service.
    while in_time(registry.register(&OTHER, instance(7001))).await.unwrap() != RegisterOutcome::Confirmed {}
    expect_listed(&server, &OTHER, &[instance(7001).address()]).await;
    expect_listed(&server, &GREETER, &[instance(7001).address()]).await;
    while in_time(registry.deregister(&GREETER, instance(7001).address())).await.is_err() {}
    expect_listed(&server, &GREETER, &[]).await;
    in_time(registry.deregister(&OTHER, instance(7001).address())).await.unwrap();
    expect_listed(&server, &OTHER, &[]).await;
    // Meanwhile every connection has sent to the server, and none has registered an instance.
    sleep(Duration::from_secs(10)).await;
    assert_eq!((server.instances(&GREETER).await, server.instances(&OTHER).await), (vec![], vec![]));
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
