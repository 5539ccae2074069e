//! A registry handle whose runtime has ended: its watches end, and later ones use the runtime of their caller.

use rpc_core::{Addresses, Instance, RegisterOutcome, ServiceId};
use rpc_registry::connect;
use tests::nacos::NacosServer;
use tokio::runtime::{Builder, Runtime};

static GREETER: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn instance(port: u16) -> Instance {
    Instance::new(([127, 0, 0, 1], port).into())
}

async fn expect(addresses: &mut Addresses, wanted: &[Instance]) {
    let newest = addresses.wait_for(|list| list.as_deref() == Some(wanted));
    tests::in_time(newest).await.expect("the watch is open");
}

/// Waits until the watch has ended.
async fn ended(mut addresses: Addresses) {
    tests::in_time(async { while addresses.changed().await.is_ok() {} }).await;
}

#[test]
fn local_watches_move_to_a_living_runtime() {
    let scratch = tempfile::tempdir().unwrap();
    let url = format!("local:{}", scratch.path().display());
    let (first, second) = (runtime(), runtime());
    let (registry, addresses) = first.block_on(async {
        let registry = connect(&url).await.unwrap();
        registry.register(&GREETER, instance(1)).await.unwrap();
        let mut addresses = registry.watch(&GREETER);
        expect(&mut addresses, &[instance(1)]).await;
        (registry, addresses)
    });
    drop(first);
    second.block_on(async {
        ended(addresses).await;
        let mut addresses = registry.watch(&GREETER);
        expect(&mut addresses, &[instance(1)]).await;
        registry.register(&GREETER, instance(2)).await.unwrap();
        expect(&mut addresses, &[instance(1), instance(2)]).await;
    });
}

#[test]
fn nacos_tasks_move_to_a_living_runtime() {
    let (first, second) = (runtime(), runtime());
    let server = second.block_on(NacosServer::start());
    let (registry, addresses) = first.block_on(async {
        let registry = connect(&server.url()).await.unwrap();
        registry.register(&GREETER, instance(7001)).await.unwrap();
        let mut addresses = registry.watch(&GREETER);
        expect(&mut addresses, &[instance(7001)]).await;
        (registry, addresses)
    });
    drop(first);
    second.block_on(async {
        ended(addresses).await;
        // The server removes the instance, because its connection has been closed.
        tests::in_time(server.wait_for(&GREETER, <[_]>::is_empty)).await;
        let mut addresses = registry.watch(&GREETER);
        expect(&mut addresses, &[]).await;
        let registered = registry.register(&GREETER, instance(7001)).await.unwrap();
        assert_eq!(registered, RegisterOutcome::Confirmed);
        expect(&mut addresses, &[instance(7001)]).await;
        registry.deregister(&GREETER, instance(7001).address()).await.unwrap();
        expect(&mut addresses, &[]).await;
    });
}
