//! Requests of web pages.

use rpc_http::Http;
use tests::{http::RawHttp, probe::Probe, serving::Serving};

use super::server;

#[tokio::test]
async fn only_configured_origins_are_served() {
    let probe = Probe::default();
    let serving = Serving::start(server(&probe, Http::new().allow_origin("https://shop.example"))).await;
    let mut http = RawHttp::connect(serving.address()).await;
    let post = |origin: &str| format!("Origin: {origin}\r\nContent-Type: text/plain\r\n");
    let foreign = http.request("POST", "/test.Probe/echo", &post("https://evil.example"), "a").await;
    assert_eq!((foreign.status, foreign.header("access-control-allow-origin")), (403, ""));
    assert!(probe.events().is_empty(), "the handler did not execute");
    let own = http.request("POST", "/test.Probe/echo", &post("https://shop.example"), "a").await;
    assert_eq!((own.status, own.header("access-control-allow-origin")), (200, "https://shop.example"));
    assert_eq!(own.header("vary"), "Origin");
    let ask = |origin: &str| {
        format!(
            "Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n"
        )
    };
    let allowed = http.request("OPTIONS", "/test.Probe/echo", &ask("https://shop.example"), "").await;
    assert_eq!((allowed.status, allowed.header("access-control-allow-headers")), (204, "content-type"));
    assert_eq!(http.request("OPTIONS", "/test.Probe/echo", &ask("null"), "").await.status, 403);
    let any = Serving::start(server(&probe, Http::new().allow_any_origin())).await;
    let mut http = RawHttp::connect(any.address()).await;
    let response = http.request("POST", "/test.Probe/echo", &post("https://evil.example"), "a").await;
    assert_eq!((response.status, response.header("access-control-allow-origin")), (200, "*"));
}
