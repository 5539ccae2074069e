//! A subscriber of `tracing` that panics, as a formatter may when the disk of its log is full, ends no task of a registry.

use std::{fs, sync::atomic::Ordering};

use rpc_core::{Addresses, Instance, RegisterOutcome, ServiceId};
use rpc_registry::connect;
use tests::{
    failing_sink::FailingSink,
    nacos::{NacosServer, ServerKind},
};

static GREETER: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

fn instance(port: u16) -> Instance {
    Instance::new(([127, 0, 0, 1], port).into())
}

async fn expect(addresses: &mut Addresses, wanted: &[Instance]) {
    let newest = addresses.wait_for(|list| list.as_deref() == Some(wanted));
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(150), newest);
    in_time.await.expect("the list arrives").expect("the watch is open");
}

#[tokio::test]
async fn failing_sink_ends_no_local_watch() {
    let (events, _guard) = FailingSink::install("rpc_registry");
    let scratch = tempfile::tempdir().unwrap();
    let registry = connect(&format!("local:{}", scratch.path().display())).await.unwrap();
    let service = scratch.path().join("demo.Greeter@1.0");
    fs::create_dir(&service).unwrap();
    let unreadable = service.join("00000000000000000001-1-0-x.json");
    std::os::unix::fs::symlink("/nowhere", &unreadable).unwrap();
    let mut addresses = registry.watch(&GREETER);
    expect(&mut addresses, &[]).await;
    tests::in_time(async {
        while events.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    registry.register(&GREETER, instance(1)).await.unwrap();
    expect(&mut addresses, &[instance(1)]).await;

    // The provider logs that it announces itself again, and does so a second time.
    for _ in 0..2 {
        fs::remove_dir_all(&service).unwrap();
        tests::in_time(async {
            while !service.exists() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
        expect(&mut addresses, &[instance(1)]).await;
    }
}

#[tokio::test]
async fn failing_sink_ends_no_nacos_task() {
    let (events, _guard) = FailingSink::install("rpc_registry");
    let mut server = NacosServer::stopped(ServerKind::RNacos);
    let registry = connect(&server.url()).await.unwrap();
    let mut addresses = registry.watch(&GREETER);
    // The registration and the watch log that the server is unavailable.
    assert_eq!(registry.register(&GREETER, instance(1)).await.unwrap(), RegisterOutcome::Pending);
    tests::in_time(async {
        while events.load(Ordering::Relaxed) < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    server.restart().await;
    expect(&mut addresses, &[instance(1)]).await;
    registry.deregister(&GREETER, instance(1).address()).await.unwrap();
    expect(&mut addresses, &[]).await;
}
