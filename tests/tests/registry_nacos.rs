//! The Nacos registry against a real server: what is registered is listed, through outages too.

use std::{collections::BTreeMap, future::Future, net::SocketAddr, time::Duration};

use rpc_core::{Addresses, Code, Discovery as _, Instance, Registry as _, ServiceId};
use rpc_registry::{Nacos, connect};
use tests::nacos::{Listed, NacosServer};
use tokio::time::timeout;

static GREETER: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");
static OTHER: ServiceId = ServiceId::from_static("demo.Other", "1.0");

fn instance(port: u16) -> Instance {
    Instance::new(([127, 0, 0, 1], port).into()).with_weight(2.5).with_metadata("protocol", "msnb")
}

/// Fails a test that hangs. After an outage the SDK alone takes up to a minute to come back.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(150), work).await.expect("it happens in time")
}

/// Waits until the newest list is `wanted`.
async fn expect(addresses: &mut Addresses, wanted: &[Instance]) {
    in_time(addresses.wait_for(|list| list.as_deref() == Some(wanted))).await.expect("the watch goes on");
}

/// Waits until the server lists these addresses.
async fn expect_listed(server: &NacosServer, service: &ServiceId, wanted: &[SocketAddr]) -> Vec<Listed> {
    let same = |listed: &[Listed]| listed.iter().map(Listed::address).eq(wanted.iter().copied());
    in_time(server.wait_for(service, same)).await
}

#[tokio::test]
async fn a_provider_is_listed_and_found_until_it_deregisters() {
    let server = NacosServer::start().await;
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

    // One who comes later sees it too, and what changes is seen.
    expect(&mut connect(&server.url()).await.unwrap().watch(&GREETER), &[instance(7001)]).await;
    in_time(provider.register(&GREETER, instance(7001).with_weight(4.0))).await.unwrap();
    expect(&mut addresses, &[instance(7001).with_weight(4.0)]).await;

    in_time(provider.deregister(&GREETER, instance(7001).address())).await.unwrap();
    in_time(provider.deregister(&GREETER, instance(7001).address())).await.unwrap();
    expect_listed(&server, &GREETER, &[]).await;
    expect(&mut addresses, &[]).await;
}

#[tokio::test]
async fn two_addresses_of_one_handle_are_both_listed_for_all_their_services() {
    let server = NacosServer::start().await;
    let registry = connect(&server.url()).await.unwrap();
    let both = [instance(7001).address(), instance(7002).address()];
    let registered = in_time(async {
        tokio::join!(
            registry.register(&GREETER, instance(7001)),
            registry.register(&GREETER, instance(7002)),
            registry.register(&OTHER, instance(7001)),
        )
    });
    assert!(matches!(registered.await, (Ok(()), Ok(()), Ok(()))));
    expect_listed(&server, &GREETER, &both).await;
    expect_listed(&server, &OTHER, &both[..1]).await;

    in_time(registry.deregister(&GREETER, both[0])).await.unwrap();
    expect_listed(&server, &GREETER, &both[1..]).await;
    expect_listed(&server, &OTHER, &both[..1]).await;

    drop(registry);
    expect_listed(&server, &GREETER, &[]).await;
    expect_listed(&server, &OTHER, &[]).await;
}

#[tokio::test]
async fn a_watch_can_begin_anew_and_ends_with_the_handle() {
    let server = NacosServer::start().await;
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

#[tokio::test]
async fn a_restarted_server_lists_again_and_its_watchers_recover() {
    let mut server = NacosServer::start().await;
    let registry = Nacos::connect(&server.url()).await.unwrap();
    let mut addresses = registry.watch(&GREETER);
    in_time(registry.register(&GREETER, instance(7001))).await.unwrap();
    expect(&mut addresses, &[instance(7001)]).await;

    server.restart().await;
    expect_listed(&server, &GREETER, &[instance(7001).address()]).await;
    // The watch works, not only what it last said.
    in_time(registry.register(&GREETER, instance(7002))).await.unwrap();
    expect(&mut addresses, &[instance(7001), instance(7002)]).await;
}

#[tokio::test]
async fn a_server_that_comes_later_is_waited_for() {
    let mut server = NacosServer::absent().await;
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

#[tokio::test]
async fn of_several_servers_one_that_lives_is_enough() {
    let (server, absent) = (NacosServer::start().await, NacosServer::absent().await);
    let url = format!("{},{}", absent.url(), server.url().trim_start_matches("nacos://"));
    let registry = connect(&url).await.unwrap();
    let mut addresses = registry.watch(&GREETER);
    in_time(registry.register(&GREETER, instance(7001))).await.unwrap();
    expect_listed(&server, &GREETER, &[instance(7001).address()]).await;
    expect(&mut addresses, &[instance(7001)]).await;
}

#[tokio::test]
async fn what_is_deregistered_in_an_outage_does_not_come_back() {
    let mut server = NacosServer::start().await;
    let registry = Nacos::connect(&server.url()).await.unwrap();
    in_time(registry.register(&GREETER, instance(7001))).await.unwrap();
    in_time(registry.register(&OTHER, instance(7001))).await.unwrap();
    expect_listed(&server, &GREETER, &[instance(7001).address()]).await;

    server.kill();
    let error = in_time(registry.deregister(&GREETER, instance(7001).address())).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    server.restart().await;

    // The other comes back through the same connection; this one is gone, although nobody asks for it again.
    expect_listed(&server, &OTHER, &[instance(7001).address()]).await;
    expect_listed(&server, &GREETER, &[]).await;
    // And when the server has said so it stays gone.
    while in_time(registry.deregister(&GREETER, instance(7001).address())).await.is_err() {}
    expect_listed(&server, &GREETER, &[]).await;
}

#[tokio::test]
async fn what_somebody_else_takes_off_is_registered_again_and_counted() {
    let server = NacosServer::start().await;
    let registry = Nacos::connect(&server.url()).await.unwrap();
    in_time(registry.register(&GREETER, instance(7001))).await.unwrap();
    expect_listed(&server, &GREETER, &[instance(7001).address()]).await;
    assert_eq!(registry.unlisted_count(), 0);

    // Another process that announces the same address, and leaves.
    let other = connect(&server.url()).await.unwrap();
    let same_address = instance(7001).with_metadata("started", "later");
    in_time(other.register(&GREETER, same_address)).await.unwrap();
    in_time(other.deregister(&GREETER, instance(7001).address())).await.unwrap();
    expect_listed(&server, &GREETER, &[]).await;
    expect_listed(&server, &GREETER, &[instance(7001).address()]).await;
    assert_eq!(registry.unlisted_count(), 1);
}

#[tokio::test]
async fn a_paused_server_makes_nothing_wait_for_ever() {
    let server = NacosServer::start().await;
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

#[tokio::test]
async fn a_wrong_password_is_told_at_start() {
    let server = NacosServer::start_with_user("bo", "hunter2").await;
    let url = |password| format!("{}?username=bo&password={password}", server.url());

    let error = connect(&url("wrong-word")).await.err().unwrap();
    assert_eq!(error.code(), Code::Unauthenticated);
    let text = format!("{error} {error:?}");
    assert!(text.contains("`bo`") && !text.contains("wrong-word"), "{text}");

    let anonymous = connect(&server.url()).await.unwrap();
    let error = in_time(anonymous.register(&GREETER, instance(7001))).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);

    let registry = Nacos::connect(&url("hunter2")).await.unwrap();
    assert!(!format!("{registry:?} {}", registry.url()).contains("hunter2"));
    let mut addresses = registry.watch(&GREETER);
    in_time(registry.register(&GREETER, instance(7001))).await.unwrap();
    expect(&mut addresses, &[instance(7001)]).await;
}

#[tokio::test]
async fn what_nacos_would_not_take_is_refused_before_the_call() {
    // Nothing listens there, so an answer comes from here.
    let server = NacosServer::absent().await;
    let registry = connect(&server.url()).await.unwrap();
    let too_much = instance(7001).with_metadata("much", "x".repeat(1025));
    let nowhere = Instance::new("0.0.0.0:7001".parse().unwrap());
    for bad in [too_much, nowhere] {
        let error = in_time(registry.register(&GREETER, bad)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    let unnamed = ServiceId::from_static("white space", "1.0");
    let error = in_time(registry.register(&unnamed, instance(7001))).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}
