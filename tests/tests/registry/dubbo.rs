//! A consumer of Dubbo finds a provider in Rust by its interface in Nacos.

use std::time::Duration;

use rpc_core::ServiceId;
use tests::{
    foreign::DUBBO_CONSUMER,
    im_net::isolated_loopback,
    in_time,
    nacos::{NacosServer, ServerKind},
    process::Provider,
};

/// Waits until Nacos lists `count` instances of the greeter's interface.
async fn until_listed(nacos: &NacosServer, count: usize) {
    let name = ServiceId::unversioned("providers:demo.greeter.v1_0.Greeter::").unwrap();
    in_time(nacos.wait_for(&name, |listed| listed.len() == count)).await;
}

/// Runs in a network namespace: on a machine with other addresses, Dubbo replaces a loopback address by one of them.
async fn consumer_finds_provider(test: &str, kind: ServerKind) {
    let home = tempfile::tempdir().unwrap();
    // A namespace has no way to download.
    let Some(mut consumer) = DUBBO_CONSUMER.command(home.path()).await else { return };
    if !kind.is_available() {
        return;
    }
    kind.prepare().await;
    isolated_loopback(test, LIMIT, async move || {
        let nacos = NacosServer::start_kind(kind).await;
        let mut provider = Provider::start_with(&nacos.url(), &["--dubbo"]).await;
        until_listed(&nacos, 1).await;
        let output = in_time(consumer.arg(nacos.url()).output()).await.unwrap();
        let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let expected = [
            &format!("hello: Hello Zoë, from {}", provider.address()),
            "empty name: FAILED_PRECONDITION \"EmptyName\"",
            "good 1: teapot 2499",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected, "{errors}");
        provider.terminate();
        until_listed(&nacos, 0).await;
        assert!(provider.wait().await.0.success());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dubbo_finds_provider_in_r_nacos() {
    consumer_finds_provider("dubbo::dubbo_finds_provider_in_r_nacos", ServerKind::RNacos).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dubbo_finds_provider_in_official_nacos() {
    consumer_finds_provider("dubbo::dubbo_finds_provider_in_official_nacos", ServerKind::Official3).await;
}

/// The longest time of a test, on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);
