//! Drain, limits of connections, and registration.

use std::{sync::Arc, time::Duration};

use rpc_core::{Discovery as _, ServiceId};
use rpc_http::{Http, HttpConfig};
use rpc_registry::Memory;
use rpc_server::ServerConfig;
use tests::{
    http::RawHttp,
    in_time,
    probe::{Event, Probe},
    serving::Serving,
};

use super::server;

#[tokio::test]
async fn drain_finishes_requests_and_closes_kept_connections() {
    let probe = Probe::default();
    let mut serving = Serving::start(server(&probe, Http::new())).await;
    let (mut idle, mut busy) = (RawHttp::connect(serving.address()).await, RawHttp::connect(serving.address()).await);
    let kept = idle.post("/test.Probe/echo", r#"{"text":"a"}"#).await;
    assert_eq!(kept.header("connection"), "", "the connection is kept");
    busy.send("POST /test.Probe/hold?key=1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    probe.until(Event::Began(1)).await;
    serving.stop();
    assert!(idle.is_closed().await);
    probe.release_all();
    let last = busy.receive().await.unwrap();
    assert_eq!((last.status, last.header("connection")), (200, "close"));
    assert!(busy.is_closed().await);
    serving.ended().await.unwrap();
}

#[tokio::test]
async fn leaving_server_serves_and_says_close() {
    let registry = Arc::new(Memory::named("http drain"));
    let probe = Probe::default();
    // Callers that keep old lists, such as Spring Cloud, still call the server in this time.
    let config = ServerConfig::default().with_drain_notice(Duration::from_millis(500));
    let builder = server(&probe, Http::new().service_name("shop")).registry(registry.clone()).config(config);
    let mut serving = Serving::start(builder).await;
    let name = ServiceId::unversioned("shop").unwrap();
    let mut listed = registry.watch(&name);
    in_time(listed.wait_for(|list| list.as_ref().is_some_and(|list| list.len() == 1))).await.unwrap();
    let mut http = RawHttp::connect(serving.address()).await;
    assert_eq!(http.post("/test.Probe/echo", r#"{"text":"a"}"#).await.header("connection"), "");
    serving.stop();
    in_time(listed.wait_for(|list| list.as_ref().is_some_and(|list| list.is_empty()))).await.unwrap();
    let response = http.post("/test.Probe/echo", r#"{"text":"b"}"#).await;
    assert_eq!((response.status, response.header("connection")), (200, "close"));
    assert!(http.is_closed().await);
    serving.ended().await.unwrap();
}

#[tokio::test]
async fn name_is_registered_only_with_http() {
    let registry = Arc::new(Memory::named("http name"));
    let name = ServiceId::unversioned("shop").unwrap();
    let builder = rpc_server::Server::builder().service(Probe::default().server()).registry(registry.clone());
    let mut serving = Serving::start(builder.endpoint(Http::new())).await;
    let mut probes = registry.watch(&tests::serving::PROBE);
    in_time(probes.wait_for(|list| list.as_ref().is_some_and(|list| list.len() == 1))).await.unwrap();
    assert!(registry.watch(&name).borrow().as_ref().is_none_or(|list| list.is_empty()));
    serving.stop();
    serving.ended().await.unwrap();
}

#[tokio::test]
async fn idle_connection_is_closed() {
    let config = HttpConfig::default().with_idle_time(Duration::from_millis(50));
    let serving = Serving::start(server(&Probe::default(), Http::new().config(config))).await;
    let mut http = RawHttp::connect(serving.address()).await;
    assert_eq!(http.post("/test.Probe/echo", r#"{"text":"a"}"#).await.status, 200);
    assert!(http.is_closed().await);
    serving.until_counted(|counts| counts.connections == 0).await;
}

#[tokio::test]
async fn aged_connection_says_close() {
    let config = ServerConfig::default().with_max_connection_age(Duration::from_millis(50));
    let probe = Probe::default();
    let serving = Serving::start(server(&probe, Http::new()).config(config)).await;
    let mut http = RawHttp::connect(serving.address()).await;
    http.send("POST /test.Probe/hold?key=1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    probe.until(Event::Began(1)).await;
    // The age varies by a tenth: two ages after one another are longer than that of the first connection.
    for _ in 0..2 {
        let mut idle = RawHttp::connect(serving.address()).await;
        assert_eq!(idle.post("/test.Probe/echo", r#"{"text":"a"}"#).await.status, 200);
        assert!(idle.is_closed().await);
    }
    probe.release_all();
    assert_eq!(http.receive().await.unwrap().header("connection"), "close");
}
