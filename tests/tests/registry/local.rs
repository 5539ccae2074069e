//! The registry of one machine, through its public face: processes find each other and notice who died.

use std::{
    future::Future,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rpc_core::{Addresses, Code, Instance, ServiceId};
use rpc_registry::connect;
use tokio::time::timeout;

static GREETER: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");
static OTHER: ServiceId = ServiceId::from_static("demo.Greeter", "2.0");

/// The directory in which the other process announces itself; without it that test does nothing.
const PROVIDER: &str = "MSNB_TEST_PROVIDER";

fn instance(port: u16) -> Instance {
    Instance::new(([127, 0, 0, 1], port).into()).with_weight(2.5).with_metadata("protocol", "msnb")
}

fn url(directory: &Path) -> String {
    format!("local:{}", directory.display())
}

/// Waits until the newest list is `wanted`.
async fn expect(addresses: &mut Addresses, wanted: &[Instance]) {
    let newest = addresses.wait_for(|list| list.as_deref() == Some(wanted));
    in_time(newest).await.expect("the watch goes on");
}

/// Fails a test that hangs.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), work).await.expect("it happens in time")
}

#[tokio::test]
async fn a_provider_is_found_until_it_deregisters() {
    let scratch = tempfile::tempdir().unwrap();
    let (provider, consumer) =
        (connect(&url(scratch.path())).await.unwrap(), connect(&url(scratch.path())).await.unwrap());
    let (mut there, mut here) = (consumer.watch(&GREETER), provider.watch(&GREETER));
    let mut other = consumer.watch(&OTHER);
    expect(&mut there, &[]).await;

    provider.register(&GREETER, instance(2)).await.unwrap();
    provider.register(&GREETER, instance(1)).await.unwrap();
    expect(&mut there, &[instance(1), instance(2)]).await;
    expect(&mut here, &[instance(1), instance(2)]).await;

    provider.register(&GREETER, instance(2).with_weight(0.0)).await.unwrap();
    expect(&mut there, &[instance(1), instance(2).with_weight(0.0)]).await;

    provider.deregister(&GREETER, instance(2).address()).await.unwrap();
    provider.deregister(&GREETER, instance(2).address()).await.unwrap();
    expect(&mut there, &[instance(1)]).await;
    expect(&mut other, &[]).await;
}

#[tokio::test]
async fn dropping_the_handle_takes_its_providers_off_and_ends_its_watches() {
    let scratch = tempfile::tempdir().unwrap();
    let provider = connect(&url(scratch.path())).await.unwrap();
    let consumer = connect(&url(scratch.path())).await.unwrap();
    let (mut kept, mut ended) = (consumer.watch(&GREETER), provider.watch(&GREETER));
    provider.register(&GREETER, instance(1)).await.unwrap();
    expect(&mut kept, &[instance(1)]).await;
    expect(&mut ended, &[instance(1)]).await;

    drop(provider);
    expect(&mut kept, &[]).await;
    in_time(async { while ended.changed().await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_watch_can_begin_anew_after_its_receivers_are_gone() {
    let scratch = tempfile::tempdir().unwrap();
    let registry = connect(&url(scratch.path())).await.unwrap();
    for port in 1..=3 {
        let mut addresses = registry.watch(&GREETER);
        registry.register(&GREETER, instance(port)).await.unwrap();
        let all: Vec<_> = (1..=port).map(instance).collect();
        expect(&mut addresses, &all).await;
    }
}

#[tokio::test]
async fn what_cannot_be_announced_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let registry = connect(&url(scratch.path())).await.unwrap();
    for bad in ["127.0.0.1:0", "0.0.0.0:1"] {
        let error = registry.register(&GREETER, Instance::new(bad.parse().unwrap())).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{bad}");
    }
    let outside = ServiceId::from_static("../outside", "1");
    assert_eq!(registry.register(&outside, instance(1)).await.unwrap_err().code(), Code::InvalidArgument);

    let file = scratch.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(connect(&url(&file)).await.err().unwrap().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_killed_provider_disappears() {
    let scratch = tempfile::tempdir().unwrap();
    let registry = connect(&url(scratch.path())).await.unwrap();
    let mut addresses = registry.watch(&GREETER);
    expect(&mut addresses, &[]).await;
    // Twice, because the first leaves a file behind for the second.
    for _ in 0..2 {
        let mut provider = provider_process(scratch.path());
        expect(&mut addresses, &[instance(7)]).await;
        let killed = std::time::Instant::now();
        provider.kill().unwrap();
        expect(&mut addresses, &[]).await;
        eprintln!("the killed provider was gone after {:?}", killed.elapsed());
        provider.wait().unwrap();
    }
}

/// Starts this binary once more, as a provider that has registered.
fn provider_process(directory: &Path) -> Child {
    let mut process = Command::new(std::env::current_exe().expect("a test knows its binary"))
        .args(["--exact", "another_process_provides", "--nocapture", "--test-threads=1"])
        .env(PROVIDER, directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a test's binary can be started again");
    let output = BufReader::new(process.stdout.take().expect("its output is piped"));
    assert!(output.lines().map_while(Result::ok).any(|line| line.contains("registered")));
    process
}

/// The other process: provides until it is killed, or until who started it is gone.
#[tokio::test]
async fn another_process_provides() {
    let Some(directory) = std::env::var_os(PROVIDER) else { return };
    let registry = connect(&url(Path::new(&directory))).await.unwrap();
    registry.register(&GREETER, instance(7)).await.unwrap();
    println!("registered");
    let _ = std::io::stdin().lines().count();
}
