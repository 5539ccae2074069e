//! Requests of web pages.

use rpc_http::Http;
use serde_json::json;
use tests::{browser::Browser, http::RawHttp, probe::Probe, serving::Serving};

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

#[tokio::test]
async fn page_calls_a_server_that_allows_its_origin() {
    let probe = Probe::default();
    // Any document of another origin serves as the page.
    let page = Serving::start(server(&probe, Http::new())).await;
    let origin = format!("http://{}", page.address());
    let open = Serving::start(server(&probe, Http::new().allow_origin(&origin))).await;
    let closed = Serving::start(server(&probe, Http::new())).await;
    let Some(mut browser) = Browser::start().await else { return };
    browser.open(&format!("{origin}/openapi.json")).await;
    let call = |server: &Serving, text: &str| {
        format!(
            "fetch('http://{}/test.Probe/echo', {{ method: 'POST', headers: {{ 'Content-Type': 'application/json' }}, \
             body: JSON.stringify({{ text: '{text}' }}) }}).then(answer => answer.json(), error => 'failed')",
            server.address()
        )
    };
    assert_eq!(browser.evaluate(&call(&open, "from the page")).await, json!("from the page"));
    assert_eq!(browser.evaluate(&call(&closed, "not allowed")).await, json!("failed"));
    assert_eq!(probe.events().len(), 1, "the handler of the other server did not execute");
    let events = format!(
        "new Promise(done => {{ const seen = []; const source = new EventSource('http://{}/numbers/3'); \
         source.onmessage = event => {{ seen.push(JSON.parse(event.data)); if (seen.length === 3) {{ source.close(); \
         done(seen); }} }}; }})",
        open.address()
    );
    assert_eq!(browser.evaluate(&events).await, json!([1, 2, 3]));
}
