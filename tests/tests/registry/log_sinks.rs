//! A subscriber of `tracing` that panics, as a formatter may when the disk of its log is full, ends no task of a registry.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rpc_core::{Addresses, Instance, RegisterOutcome, ServiceId};
use rpc_registry::connect;
use tests::nacos::{NacosServer, ServerKind};
use tracing::{Event, Metadata, Subscriber, span};

static GREETER: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

/// Panics at each event of rpc-registry, and counts them.
struct FailingSink(Arc<AtomicUsize>);

impl Subscriber for FailingSink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("rpc_registry")
    }

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("deliberate: the log cannot be written");
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Installs a failing sink for this thread, on which the runtime of the test runs all tasks.
fn failing_sink() -> (Arc<AtomicUsize>, tracing::subscriber::DefaultGuard) {
    let events = Arc::default();
    let guard = tracing::subscriber::set_default(FailingSink(Arc::clone(&events)));
    (events, guard)
}

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
    let (events, _guard) = failing_sink();
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
    let (events, _guard) = failing_sink();
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
