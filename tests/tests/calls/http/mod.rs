//! HTTP/JSON on the port of a server.

mod browser;
mod callers;
mod client;
mod draining;
mod openapi;
mod requests;
mod streams;

use std::collections::BTreeMap;

use rpc_core::{Context, Streaming, rpc_service};
use rpc_http::Http;
use rpc_server::{Server, ServerBuilder};
use serde::{Deserialize, Serialize};
use tests::probe::Probe;

/// A service with paths of its own.
#[rpc_service(name = "test.Shop", version = "1.2")]
trait Shop {
    /// Returns an order.
    #[rpc(idempotent, http = "GET /orders/{id}", status(NotFound = 404, Gone = 410))]
    async fn order(&self, id: u64, verbose: Option<bool>) -> Result<Order, ShopError>;

    /// Replaces an order.
    #[rpc(http = "PUT /orders/{id}")]
    async fn replace(&self, id: u64, order: Order) -> Order;

    /// Finds orders.
    #[rpc(http = "GET /orders")]
    async fn find(&self, tags: Vec<String>, color: Option<Color>, limit: Option<u32>) -> Vec<String>;

    /// Adds an order once.
    #[rpc(once, http = "POST /orders")]
    async fn add(&self, order: Order) -> u64;

    /// Does nothing, once.
    #[rpc(once)]
    async fn tick(&self) -> u64;

    /// Returns the text.
    async fn shout(&self, text: String) -> String;

    /// Returns the numbers up to `to`, and fails at `broken`.
    #[rpc(http = "GET /numbers/{to}")]
    async fn numbers(&self, to: u32, broken: Option<u32>) -> Streaming<u32, ShopError>;

    /// Returns the metadata, and adds some to the answer.
    async fn metadata(&self) -> BTreeMap<String, String>;

    /// Adds up numbers.
    async fn sum(&self, numbers: Streaming<u32>) -> u32;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    item: String,
    price: f64,
    #[serde(default)]
    colors: Vec<Color>,
    note: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Color {
    Red,
    Blue,
}

#[derive(Debug, Serialize, Deserialize)]
enum ShopError {
    NotFound { id: u64 },
    Gone,
    Closed(String),
}

struct MyShop(std::sync::atomic::AtomicU64);

impl Shop for MyShop {
    async fn order(&self, id: u64, verbose: Option<bool>) -> Result<Order, ShopError> {
        match id {
            404 => Err(ShopError::NotFound { id }),
            410 => Err(ShopError::Gone),
            422 => Err(ShopError::Closed("sunday".to_owned())),
            _ => Ok(Order {
                item: format!("item {id}"),
                price: 1.5,
                colors: Vec::new(),
                note: verbose.map(|verbose| verbose.to_string()),
            }),
        }
    }

    async fn replace(&self, id: u64, order: Order) -> Order {
        Order { note: Some(format!("replaced {id}")), ..order }
    }

    async fn find(&self, tags: Vec<String>, color: Option<Color>, limit: Option<u32>) -> Vec<String> {
        let color = color.map(|color| format!("{color:?}"));
        tags.into_iter().chain(color).chain(limit.map(|limit| limit.to_string())).collect()
    }

    async fn add(&self, _: Order) -> u64 {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst)
    }

    async fn tick(&self) -> u64 {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst)
    }

    async fn shout(&self, text: String) -> String {
        text.to_uppercase()
    }

    async fn numbers(&self, to: u32, broken: Option<u32>) -> Streaming<u32, ShopError> {
        let (sender, stream) = Streaming::channel(1);
        #[expect(clippy::disallowed_methods, reason = "the task ends with the stream to which it sends")]
        tokio::spawn(async move {
            for number in 1..=to {
                if broken == Some(number) {
                    return sender.fail(ShopError::Gone);
                }
                if sender.send(number).await.is_err() {
                    return;
                }
            }
        });
        stream
    }

    async fn metadata(&self) -> BTreeMap<String, String> {
        let context = Context::current().unwrap();
        context.insert_response_metadata("seen", "yes").unwrap();
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        context.metadata().iter().map(|(key, value)| (key.to_owned(), text(value))).collect()
    }

    async fn sum(&self, mut numbers: Streaming<u32>) -> u32 {
        let mut sum = 0;
        while let Some(Ok(number)) = numbers.next().await {
            sum += number;
        }
        sum
    }
}

/// Returns a server with a probe, a shop, and HTTP.
fn server(probe: &Probe, http: Http) -> ServerBuilder {
    Server::builder().service(probe.server()).service(ShopServer::new(MyShop(Default::default()))).endpoint(http)
}
