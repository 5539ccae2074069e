//! Calls of JSON services by [`HttpCaller`].

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rpc_core::{CallError, Code, Delivery, Instance, Registry as _, ServiceId};
use rpc_http::{Http, HttpCaller, HttpCallerConfig};
use rpc_registry::Memory;
use tests::{
    Task,
    http::RawHttp,
    in_time,
    probe::{Event, Probe, ProbingClient},
    serving::Serving,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{Color, Order, ShopClient, ShopError, server};

/// A provider whose answers are these bytes; no bytes close the connection.
struct Canned {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    _task: Task<()>,
}

impl Canned {
    async fn start(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, requests, answer) =
            (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default(), answer.into());
        let counter = Arc::clone(&requests);
        let task = Task::begin(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                counter.fetch_add(1, SeqCst);
                let _ = stream.write_all(&answer).await;
            }
        });
        Self { address, requests, _task: task }
    }

    fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }
}

async fn listing(name: &str, addresses: &[SocketAddr]) -> Arc<Memory> {
    let registry = Arc::new(Memory::named(name));
    for address in addresses {
        registry.register(&ServiceId::unversioned("shop").unwrap(), Instance::new(*address)).await.unwrap();
    }
    registry
}

fn json(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn caller_uses_paths_and_reads_results_and_errors() {
    let registry = Arc::new(Memory::named("http caller"));
    let builder = server(&Probe::default(), Http::new().service_name("shop")).registry(registry.clone());
    let _serving = Serving::start(builder).await;
    let caller = HttpCaller::new(registry, "shop").unwrap();
    let shop = ShopClient::new(caller.clone());
    assert_eq!(shop.order(7, Some(true)).wait_for_ready(true).await.unwrap().note.as_deref(), Some("true"));
    let order = Order { item: "x y".to_owned(), price: 2.0, colors: vec![Color::Blue], note: None };
    assert_eq!(shop.replace(8, order.clone()).await.unwrap().note.as_deref(), Some("replaced 8"));
    let found = shop.find(vec!["a&b".to_owned(), "你".to_owned()], Some(Color::Red), None).await.unwrap();
    assert_eq!(found, ["a&b", "你", "Red"]);
    assert_eq!(shop.add(order).await.unwrap(), 0);
    assert_eq!(shop.shout("a".to_owned()).await.unwrap(), "A", "the general path");
    let CallError::Service(ShopError::NotFound { id }) = shop.order(404, None).await.unwrap_err() else { panic!() };
    assert_eq!(id, 404);
    let (seen, answered) = shop.metadata().metadata("tenant", "a").with_response_metadata().await;
    assert_eq!((seen.unwrap()["tenant"].as_str(), answered.get("seen")), ("a", Some("yes")));
    let probing = ProbingClient::new(caller);
    let error = probing.hold(1).timeout(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    let error = probing.panic(true).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::Internal, Delivery::Answered));
    let error = shop.numbers(1, None).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::Unimplemented, Delivery::NotExecuted));
}

#[tokio::test]
async fn delivery_decides_about_another_attempt() {
    let good = Canned::start(json("200 OK", r#"{"item":"x","price":1,"colors":[]}"#)).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let order = || Order { item: String::new(), price: 0.0, colors: Vec::new(), note: None };
    // Nothing was sent: every call goes to the other provider.
    let registry = listing("http dead provider", &[closed, good.address]).await;
    let shop = ShopClient::new(HttpCaller::new(registry, "shop").unwrap());
    for _ in 0..10 {
        shop.replace(1, order()).await.unwrap();
    }
    assert_eq!(good.requests(), 10);
    // The provider closes the connection behind the request.
    let silent = Canned::start("").await;
    let registry = listing("http silent provider", &[silent.address]).await;
    let shop = ShopClient::new(HttpCaller::new(registry, "shop").unwrap());
    let error = shop.replace(1, order()).await.unwrap_err();
    assert_eq!((error.code(), error.delivery(), silent.requests()), (Code::Unavailable, Delivery::Unknown, 1));
    let CallError::Rpc(error) = shop.order(1, None).await.unwrap_err() else { panic!("a transport error") };
    assert_eq!((error.code(), error.delivery(), silent.requests()), (Code::Unavailable, Delivery::Unknown, 1 + 3));
}

#[tokio::test]
async fn answers_of_spring_are_understood() {
    let chunked = "HTTP/1.1 200 \r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
                   9\r\n{\"item\":\"\r\n19\r\nx\",\"price\":1,\"extra\":[2]}\r\n0\r\n\r\n";
    let error = r#"{"timestamp":"2026-12-01T05:00:00Z","status":400,"error":"Bad Request","path":"/orders/1"}"#;
    for (answer, expected) in [
        (chunked.to_owned(), Ok("x")),
        (json("400 ", error), Err((Code::InvalidArgument, "HTTP 400 Bad Request: /orders/1"))),
        (json("500 ", "<html>"), Err((Code::Internal, "HTTP 500 Internal Server Error"))),
        (json("200 ", "<html>"), Err((Code::Internal, "the response does not decode"))),
    ] {
        let provider = Canned::start(answer).await;
        let registry = listing(&format!("spring {}", provider.address), &[provider.address]).await;
        let shop = ShopClient::new(HttpCaller::new(registry, "shop").unwrap());
        match (shop.order(1, None).await, expected) {
            (Ok(order), Ok(item)) => assert_eq!(order.item, item),
            (Err(CallError::Rpc(error)), Err((code, message))) => {
                assert_eq!((error.code(), error.delivery()), (code, Delivery::Answered));
                assert!(error.message().contains(message), "{error}");
            }
            (outcome, expected) => panic!("{outcome:?} {expected:?}"),
        }
    }
}

#[tokio::test]
async fn caller_has_bounds() {
    let registry = Arc::new(Memory::named("http bounds"));
    let probe = Probe::default();
    let builder = server(&probe, Http::new().service_name("shop")).registry(registry.clone());
    let serving = Serving::start(builder).await;
    let config = HttpCallerConfig::default().with_max_connections(1).with_max_body(1000);
    let probing = ProbingClient::new(HttpCaller::with_config(registry, "shop", config).unwrap());
    assert_eq!(probing.large(998).wait_for_ready(true).await.unwrap().len(), 998);
    let error = probing.large(999).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::ResourceExhausted, Delivery::Answered));
    let first = Task::begin(probing.hold(1).timeout(Duration::from_secs(40)));
    probe.until(Event::Began(1)).await;
    let second = probing.hold(2).timeout(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!((second.code(), second.delivery()), (Code::DeadlineExceeded, Delivery::NotExecuted), "no place is free");
    // Dropping a call ends its handler.
    first.abort().await;
    probe.until(Event::Dropped(1)).await;
    assert_eq!(probing.echo("a".to_owned()).await.unwrap(), "a");
    let kept = serving.handle().counts().accepted;
    for _ in 0..3 {
        probing.echo("a".to_owned()).await.unwrap();
    }
    assert_eq!(serving.handle().counts().accepted, kept, "the connection is kept");
    in_time(RawHttp::connect(serving.address())).await;
}

#[tokio::test]
async fn caller_follows_the_registry() {
    let registry = listing("http registry", &[]).await;
    let shop = ShopClient::new(HttpCaller::new(registry.clone(), "shop").unwrap());
    let waiting = Task::begin(shop.shout("a".to_owned()).wait_for_ready(true).timeout(Duration::from_secs(40)));
    let mut serving =
        Serving::start(server(&Probe::default(), Http::new().service_name("shop")).registry(registry.clone())).await;
    assert_eq!(waiting.end().await.unwrap(), "A");
    serving.stop();
    serving.ended().await.unwrap();
    let error = shop.shout("a".to_owned()).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::Unavailable, Delivery::NotExecuted));
}
