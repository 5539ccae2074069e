//! Paths, arguments, results and errors.

use rpc_core::Code;
use rpc_http::Http;
use rpc_server::{Server, ServerConfig};
use serde_json::json;
use tests::{
    http::{HttpResponse, RawHttp},
    probe::{Event, Probe},
    serving::Serving,
};

use super::server;

async fn serving() -> Serving {
    Serving::start(server(&Probe::default(), Http::new())).await
}

fn code(response: &HttpResponse) -> (u16, String) {
    assert_eq!(response.header("content-type"), "application/problem+json", "{}", response.text());
    let problem = response.json();
    assert_eq!(problem["status"], response.status);
    (response.status, format!("{} {}", problem["code"].as_str().unwrap(), problem["delivery"].as_str().unwrap()))
}

#[tokio::test]
async fn post_by_name_returns_json() {
    let serving = serving().await;
    let mut http = RawHttp::connect(serving.address()).await;
    for path in ["/test.Probe:1.0/echo", "/test.Probe/echo", "/test.Probe%3A1.0/echo"] {
        let response = http.post(path, r#"{"text":"Bo 你好"}"#).await;
        assert_eq!((response.status, response.json()), (200, json!("Bo 你好")), "{path}");
        assert_eq!(response.header("content-type"), "application/json");
    }
    assert_eq!(http.post("/test.Probe/watch_over", "{").await.status, 400);
    let told = http.post("/test.Probe/tell", r#"{"text":"x"}"#).await;
    assert_eq!((told.status, told.text().as_str()), (202, "null"));
}

#[tokio::test]
async fn bodies_and_queries_of_spring_are_read() {
    let serving = serving().await;
    let mut http = RawHttp::connect(serving.address()).await;
    let text = http.request("POST", "/test.Probe/echo", "Content-Type: text/plain;charset=UTF-8\r\n", "Bo").await;
    assert_eq!(text.json(), json!("Bo"));
    let query = http.request("POST", "/test.Probe/echo?text=Bo%20%E4%BD%A0+%26x", "", "").await;
    assert_eq!(query.json(), json!("Bo 你 &x"));
    // The default client of Feign sends neither a length nor an encoding.
    http.send("POST /test.Probe/echo?text=a HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\r\n").await;
    assert_eq!(http.receive().await.unwrap().json(), json!("a"));
    // That of Java asks for HTTP/2 with each request.
    let upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n";
    let upgraded = http.request("POST", "/test.Probe/echo", upgrade, r#"{"text":"b"}"#).await;
    assert_eq!((upgraded.status, upgraded.json()), (200, json!("b")));
    let number = http.post("/test.Probe/large", "3").await;
    assert_eq!(number.json(), json!("xxx"));
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(http.request("POST", "/test.Probe/echo", form, "text=a+b").await.json(), json!("a b"));
    let chunked = "POST /test.Probe/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"text\":\r\n4\r\n\"c\"}\r\n0\r\n\r\n";
    http.send(chunked).await;
    assert_eq!(http.receive().await.unwrap().json(), json!("c"));
}

#[tokio::test]
async fn paths_of_methods_have_parameters() {
    let serving = serving().await;
    let mut http = RawHttp::connect(serving.address()).await;
    let order = http.get("/orders/7?verbose=true").await;
    assert_eq!(order.json(), json!({ "item": "item 7", "price": 1.5, "colors": [], "note": "true" }));
    let body = r#"{"item":"x","price":2}"#;
    let json = "Content-Type: application/json\r\n";
    let replaced = http.request("PUT", "/orders/8", json, body).await;
    assert_eq!(replaced.json()["note"], "replaced 8");
    let wrapped = http.request("PUT", "/orders/8", json, &format!(r#"{{"order":{body}}}"#)).await;
    assert_eq!(wrapped.json(), replaced.json());
    let found = http.get("/orders?tags=a&tags=b&color=Red&limit=3&utm_source=x").await;
    assert_eq!(found.json(), json!(["a", "b", "Red", "3"]));
    // The method has its general path as well.
    assert_eq!(http.post("/test.Shop:1.2/order", r#"{"id":7}"#).await.json()["item"], "item 7");
    assert_eq!(code(&http.get("/orders/x").await), (400, "InvalidArgument not-executed".to_owned()));
    let other = http.request("DELETE", "/orders/7", "", "").await;
    assert_eq!((other.status, other.header("allow")), (405, "GET, PUT"));
    let other = http.get("/test.Probe/echo").await;
    assert_eq!((other.status, other.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn errors_are_problems_with_delivery() {
    let probe = Probe::default();
    let config = ServerConfig::default().with_max_running(1).with_max_queued(0);
    let serving = Serving::start(server(&probe, Http::new()).config(config)).await;
    let mut http = RawHttp::connect(serving.address()).await;
    for (path, body, expected) in [
        ("/test.Probe/none", "{}", (404, "Unimplemented not-executed")),
        ("/test.Probe:9/echo", "{}", (404, "Unimplemented not-executed")),
        ("/nothing", "{}", (404, "Unimplemented not-executed")),
        ("/test.Probe/echo", "{}", (400, "InvalidArgument not-executed")),
        ("/test.Probe/echo", "{\"text\":1}", (400, "InvalidArgument not-executed")),
        ("/test.Probe/panic", r#"{"at_once":true}"#, (500, "Internal answered")),
        ("/test.Probe/hold_briefly", r#"{"key":1}"#, (504, "DeadlineExceeded answered")),
        ("/test.Shop/sum", "{}", (501, "Unimplemented not-executed")),
    ] {
        let response = http.post(path, body).await;
        assert_eq!(code(&response), (expected.0, expected.1.to_owned()), "{path} {body}");
    }
    let timeout = "Content-Type: application/json\r\nRequest-Timeout-Ms: 20\r\ngrpc-timeout: 1H\r\n";
    let late = http.request("POST", "/test.Probe/hold", timeout, r#"{"key":2}"#).await;
    assert_eq!(late.status, 504);
    let bad = http.request("POST", "/test.Probe/hold", "grpc-timeout: soon\r\n", r#"{"key":2}"#).await;
    assert_eq!(bad.status, 400);
    let mut other = RawHttp::connect(serving.address()).await;
    other.send("POST /test.Probe/hold?key=3 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    probe.until(Event::Began(3)).await;
    let full = http.post("/test.Probe/hold", r#"{"key":4}"#).await;
    assert_eq!(code(&full), (429, "ResourceExhausted not-executed".to_owned()));
    assert_eq!((full.header("retry-after"), full.json()["retryAfterMs"].as_u64()), ("1", Some(10)));
    drop(other);
    probe.until(Event::Dropped(3)).await;
    assert_eq!(serving.handle().counts().unknown, 1, "the server counts services that it does not have");
}

#[tokio::test]
async fn service_errors_have_the_status_of_their_variant() {
    let serving = serving().await;
    let mut http = RawHttp::connect(serving.address()).await;
    for (id, status, body) in [
        (404, 404, json!({ "NotFound": { "id": 404 } })),
        (410, 410, json!("Gone")),
        (422, 422, json!({ "Closed": "sunday" })),
    ] {
        let response = http.get(&format!("/orders/{id}")).await;
        assert_eq!((response.status, response.json()), (status, body));
        assert_eq!(response.header("content-type"), "application/json");
        assert_eq!(response.header("msnb-service-error"), "true");
    }
}

#[tokio::test]
async fn metadata_and_trace_travel_as_headers() {
    let serving = serving().await;
    let mut http = RawHttp::connect(serving.address()).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = format!("Msnb-Metadata-Tenant: a\r\nTraceparent: {trace}\r\nX-Other: b\r\n");
    let response = http.request("POST", "/test.Shop/metadata", &headers, "").await;
    assert_eq!(response.json(), json!({ "tenant": "a", "traceparent": trace }));
    assert_eq!(response.header("msnb-metadata-seen"), "yes");
}

#[tokio::test]
async fn idempotency_key_executes_a_once_method_once() {
    let serving = serving().await;
    let mut http = RawHttp::connect(serving.address()).await;
    let order = r#"{"item":"x","price":2}"#;
    let json = "Content-Type: application/json\r\n";
    let keyed = format!("{json}Idempotency-Key: 1f0c\r\n");
    for _ in 0..2 {
        assert_eq!(http.request("POST", "/orders", &keyed, order).await.json(), json!(0));
    }
    assert_eq!(http.request("POST", "/orders", json, order).await.json(), json!(1), "without a key");
    let bare = http.request("POST", "/test.Shop/tick", "", "").await;
    assert_eq!(code(&bare), (400, "InvalidArgument not-executed".to_owned()), "callers repeat it by themselves");
    for _ in 0..2 {
        let ticked = http.request("POST", "/test.Shop/tick", "Idempotency-Key: 1f0c\r\n", "").await;
        assert_eq!(ticked.json(), json!(2), "the key of another method");
    }
    let plain = http.request("POST", "/test.Probe/echo", &keyed, r#"{"text":"x"}"#).await;
    assert_eq!(plain.status, 404, "the method cannot execute once");
}

#[tokio::test]
async fn invalid_options_prevent_the_bind() {
    let bind = async |http: Http| {
        Server::builder().service(Probe::default().server()).endpoint(http).bind("127.0.0.1:0").await.map(drop)
    };
    assert_eq!(bind(Http::new().service_name("demo.Greeter:1.0")).await.unwrap_err().code(), Code::InvalidArgument);
    let config = rpc_http::HttpConfig::default().with_max_streams(0);
    assert_eq!(bind(Http::new().config(config)).await.unwrap_err().code(), Code::InvalidArgument);
    let twice = Server::builder()
        .service(super::ShopServer::new(super::MyShop(Default::default())))
        .service(OtherShopServer::new(MyOtherShop))
        .endpoint(Http::new());
    assert_eq!(twice.bind("127.0.0.1:0").await.unwrap_err().code(), Code::AlreadyExists);
}

/// A service with a path that another one has.
#[rpc_core::rpc_service(name = "test.OtherShop")]
trait OtherShop {
    #[rpc(http = "GET /orders/{number}")]
    async fn order(&self, number: u64) -> u64;
}

struct MyOtherShop;

impl OtherShop for MyOtherShop {
    async fn order(&self, number: u64) -> u64 {
        number
    }
}
