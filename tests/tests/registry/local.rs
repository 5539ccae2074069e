//! The `local:` registry through its public API: discovery between processes, and removal of killed providers.

use std::{
    future::Future,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use rpc_core::{Addresses, Code, Instance, ServiceId};
use rpc_registry::connect;
use tests::process::test_process;
use tokio::time::timeout;

static GREETER: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");
static OTHER: ServiceId = ServiceId::from_static("demo.Greeter", "2.0");

/// The variable with the registry's directory for the second process. Without it, the test of that process does nothing.
const DIRECTORY: &str = "MSNB_TEST_PROVIDER";

fn instance(port: u16) -> Instance {
    Instance::new(([127, 0, 0, 1], port).into()).with_weight(2.5).with_metadata("protocol", "msnb")
}

fn url(directory: &Path) -> String {
    format!("local:{}", directory.display())
}

/// Waits until the newest list is `wanted`.
async fn expect(addresses: &mut Addresses, wanted: &[Instance]) {
    let newest = addresses.wait_for(|list| list.as_deref() == Some(wanted));
    in_time(newest).await.expect("the watch is open");
}

/// Waits for `work` for at most 30 s.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), work).await.expect("the work exceeded 30 s")
}

#[tokio::test]
async fn watch_lists_provider_until_it_deregisters() {
    let scratch = tempfile::tempdir().unwrap();
    let (provider, consumer) =
        (connect(&url(scratch.path())).await.unwrap(), connect(&url(scratch.path())).await.unwrap());
    let (mut remote, mut local) = (consumer.watch(&GREETER), provider.watch(&GREETER));
    let mut other = consumer.watch(&OTHER);
    expect(&mut remote, &[]).await;

    provider.register(&GREETER, instance(2)).await.unwrap();
    provider.register(&GREETER, instance(1)).await.unwrap();
    expect(&mut remote, &[instance(1), instance(2)]).await;
    expect(&mut local, &[instance(1), instance(2)]).await;

    provider.register(&GREETER, instance(2).with_weight(0.0)).await.unwrap();
    expect(&mut remote, &[instance(1), instance(2).with_weight(0.0)]).await;

    provider.deregister(&GREETER, instance(2).address()).await.unwrap();
    provider.deregister(&GREETER, instance(2).address()).await.unwrap();
    expect(&mut remote, &[instance(1)]).await;
    expect(&mut other, &[]).await;
}

#[tokio::test]
async fn dropped_handle_removes_providers_and_ends_watches() {
    let scratch = tempfile::tempdir().unwrap();
    let provider = connect(&url(scratch.path())).await.unwrap();
    let consumer = connect(&url(scratch.path())).await.unwrap();
    let (mut open, mut ended) = (consumer.watch(&GREETER), provider.watch(&GREETER));
    provider.register(&GREETER, instance(1)).await.unwrap();
    expect(&mut open, &[instance(1)]).await;
    expect(&mut ended, &[instance(1)]).await;

    drop(provider);
    expect(&mut open, &[]).await;
    in_time(async { while ended.changed().await.is_ok() {} }).await;
}

#[tokio::test]
async fn watch_resumes_after_its_receivers_are_dropped() {
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
async fn registry_rejects_invalid_registration_and_directory() {
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
async fn killed_provider_leaves_list() {
    let scratch = tempfile::tempdir().unwrap();
    let registry = connect(&url(scratch.path())).await.unwrap();
    let mut addresses = registry.watch(&GREETER);
    expect(&mut addresses, &[]).await;
    // The first process leaves a file, which the second one finds.
    for _ in 0..2 {
        let mut provider = provider_process(scratch.path());
        expect(&mut addresses, &[instance(7)]).await;
        let killed = std::time::Instant::now();
        provider.kill().unwrap();
        expect(&mut addresses, &[]).await;
        eprintln!("the killed provider left the list after {:?}", killed.elapsed());
        provider.wait().unwrap();
    }
}

/// Starts this test binary again as a provider, and waits until it has registered.
fn provider_process(directory: &Path) -> Child {
    let test = "local::second_process_registers_provider";
    let mut process = test_process(&["--exact", test, "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test binary starts");
    let output = BufReader::new(process.stdout.take().expect("the output is a pipe"));
    assert!(output.lines().map_while(Result::ok).any(|line| line.contains("registered")));
    process
}

/// Runs in the second process: registers a provider until the process is killed or its parent ends.
#[tokio::test]
async fn second_process_registers_provider() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let registry = connect(&url(Path::new(&directory))).await.unwrap();
    registry.register(&GREETER, instance(7)).await.unwrap();
    println!("registered");
    let _ = std::io::stdin().lines().count();
}
