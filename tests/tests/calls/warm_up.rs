//! Connecting before the first call.

use std::sync::Arc;

use rpc_client::{Client, ClientConfig, EndpointState};
use rpc_core::{Code, Discovery, Instance, Registry as _};
use rpc_registry::Memory;
use rpc_server::ServerConfig;
use tests::{
    in_time,
    probe::{Probe, ProbingClient},
    serving::{PROBE, Serving},
};

fn client(registry: Arc<dyn Discovery>) -> Client {
    Client::builder().registry(registry).config(ClientConfig::default().with_cache_directory(None)).build().unwrap()
}

/// Starts two servers that `registry` lists.
async fn two_servers(registry: &Memory) -> [Serving; 2] {
    let start = async || {
        let serving = Serving::probe(&Probe::default(), ServerConfig::default()).await;
        registry.register(&PROBE, Instance::new(serving.address())).await.unwrap();
        serving
    };
    [start().await, start().await]
}

#[tokio::test]
async fn warm_up_connects_to_all_providers() {
    let registry = Arc::new(Memory::named("warm up"));
    let _servers = two_servers(&registry).await;
    // An address of this machine without a listener does not prevent the success.
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    registry.register(&PROBE, Instance::new(unused)).await.unwrap();
    let client = client(registry);
    in_time(client.warm_up::<ProbingClient<_>>()).await.unwrap();
    let ready = client.endpoints().iter().filter(|(_, state)| matches!(state, EndpointState::Ready { .. })).count();
    assert_eq!((ready, client.counts().connects), (2, 2));
    in_time(ProbingClient::new(client.clone()).echo("x".to_owned())).await.unwrap();
    assert_eq!(client.counts().connects, 2);
    in_time(client.warm_up::<ProbingClient<_>>()).await.unwrap();
}

#[tokio::test]
async fn warm_up_reports_missing_providers() {
    let empty = client(Arc::new(Memory::named("warm up without providers")));
    let error = in_time(empty.warm_up::<ProbingClient<_>>()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("lists no provider of test.Probe:1.0"), "{error}");
    let no_registry = Client::builder().build().unwrap();
    let error = no_registry.warm_up::<ProbingClient<_>>().await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    no_registry.close().await;
    let error = no_registry.warm_up::<ProbingClient<_>>().await.unwrap_err();
    assert!(error.message().contains("closed"), "{error}");
}

#[tokio::test]
async fn dropped_warm_up_still_connects() {
    let registry = Arc::new(Memory::named("warm up is dropped"));
    let servers = two_servers(&registry).await;
    let client = client(registry);
    let mut warm_up = Box::pin(client.warm_up::<ProbingClient<_>>());
    let is_pending = std::future::poll_fn(|cx| std::task::Poll::Ready(warm_up.as_mut().poll(cx).is_pending())).await;
    assert!(is_pending);
    drop(warm_up);
    for serving in &servers {
        serving.until_counted(|counts| counts.connections == 1).await;
    }
}
