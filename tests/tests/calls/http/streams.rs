//! Streams as lines and as events.

use rpc_http::Http;
use tests::{http::RawHttp, probe::Probe, serving::Serving};

use super::server;

async fn serving() -> Serving {
    Serving::start(server(&Probe::default(), Http::new())).await
}

#[tokio::test]
async fn stream_is_sent_as_lines() {
    let serving = serving().await;
    let mut http = RawHttp::connect(serving.address()).await;
    let response = http.get("/numbers/3").await;
    assert_eq!((response.header("content-type"), response.text().as_str()), ("application/x-ndjson", "1\n2\n3\n"));
    let many = http.get("/numbers/20000").await;
    assert_eq!(many.text().lines().count(), 20_000, "more than the window of a stream");
    let empty = http.get("/numbers/0").await;
    assert_eq!((empty.status, empty.text().as_str()), (200, ""));
}

#[tokio::test]
async fn stream_is_sent_as_events() {
    let serving = serving().await;
    let mut http = RawHttp::connect(serving.address()).await;
    let accept = "Accept: text/event-stream\r\n";
    let response = http.request("GET", "/numbers/2", accept, "").await;
    assert_eq!(response.header("content-type"), "text/event-stream");
    assert_eq!(response.text(), "data: 1\n\ndata: 2\n\n");
    let failed = http.request("GET", "/numbers/9?broken=2", accept, "").await;
    assert_eq!(failed.text(), "data: 1\n\nevent: error\ndata: \"Gone\"\n\n");
}

#[tokio::test]
async fn failed_stream_of_lines_is_cut_off() {
    let serving = serving().await;
    let mut http = RawHttp::connect(serving.address()).await;
    http.send("GET /numbers/9?broken=2 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(http.head().await.unwrap().status, 200);
    assert_eq!(http.chunk().await.unwrap(), b"1\n");
    assert!(http.is_closed().await, "no last chunk follows");
}

#[tokio::test]
async fn caller_that_leaves_ends_the_stream() {
    let serving = serving().await;
    let mut http = RawHttp::connect(serving.address()).await;
    http.send("GET /numbers/4000000000 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(http.head().await.unwrap().status, 200);
    serving.until_counted(|counts| counts.streams == 1).await;
    drop(http);
    serving.until_counted(|counts| counts.streams == 0 && counts.connections == 0).await;
}
