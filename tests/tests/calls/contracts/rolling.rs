//! A rolling upgrade from one version of a contract to the next, and back, under load.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rpc_client::Client;
use rpc_core::Codec;
use rpc_registry::Memory;
use rpc_server::{Server, ServerBuilder, ServerConfig};
use tests::{Task, in_time, patient, serving::Serving};

use super::evolution::{one, two};

/// The calls of the callers of both versions.
#[derive(Default)]
struct Load {
    stops: AtomicBool,
    calls: AtomicU64,
}

impl Load {
    /// Waits until the callers have made this number of further calls.
    async fn proceed(&self, calls: u64) {
        let target = self.calls.load(Ordering::Relaxed) + calls;
        in_time(async {
            while self.calls.load(Ordering::Relaxed) < target {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    fn continues(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed);
        !self.stops.load(Ordering::Relaxed)
    }
}

async fn call_as_one(load: Arc<Load>, client: Client) {
    let evolving = one::EvolvingClient::new(client);
    let mut id = 0;
    while load.continues() {
        id += 1;
        let order = one::Order { id, item: format!("item {id}") };
        assert_eq!(evolving.unchanged(order.clone()).await.unwrap(), order);
        assert_eq!(evolving.added_field(order.clone()).await.unwrap(), order);
        assert_eq!(evolving.added_parameter(id).await.unwrap(), id);
        let kind = if id % 2 == 0 { one::Kind::Plain } else { one::Kind::Sized(id as u8) };
        assert_eq!(evolving.added_variant(kind.clone()).await.unwrap(), kind);
        let point = one::Point { x: id as u32, y: !(id as u32) };
        assert_eq!(evolving.reordered(point.clone()).await.unwrap(), point);
    }
}

async fn call_as_two(load: Arc<Load>, client: Client) {
    let evolving = two::EvolvingClient::new(client);
    let mut id = 0;
    while load.continues() {
        id += 1;
        let purchase = two::Purchase { id, item: format!("item {id}") };
        assert_eq!(evolving.unchanged(purchase.clone()).await.unwrap(), purchase);
        let order = two::Order { id, currency: "SEK".into(), item: format!("item {id}") };
        let answer = evolving.added_field(order.clone()).await.unwrap();
        // The provider of the first version does not have the field.
        let without = two::Order { currency: "EUR".into(), ..order.clone() };
        assert!(answer == order || answer == without, "{answer:?}");
        let answer = evolving.added_parameter(id, Some("abc".into())).await.unwrap();
        assert!(answer == id || answer == id + 3, "{answer} for {id}");
        let kind = if id % 2 == 0 { two::Kind::Plain } else { two::Kind::Sized(id as u8) };
        assert_eq!(evolving.added_variant(kind.clone()).await.unwrap(), kind);
        let point = two::Point { x: id as u32, y: !(id as u32) };
        assert_eq!(evolving.reordered(point.clone()).await.unwrap(), point);
    }
}

fn first() -> ServerBuilder {
    Server::builder().service(one::EvolvingServer::new(one::Service))
}

fn second() -> ServerBuilder {
    Server::builder().service(two::EvolvingServer::new(two::Service))
}

/// Providers restart one after the other on their addresses with the other version of the contract.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_upgrade_and_back_fails_no_call() {
    let registry = Arc::new(Memory::named("rolling-contracts"));
    let config = ServerConfig::default().with_drain_notice(Duration::from_millis(50));
    let start = async |version: fn() -> ServerBuilder, address: SocketAddr| {
        Serving::start_on(version().registry(Arc::clone(&registry) as _).config(config.clone()), address).await
    };
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(start(first, SocketAddr::from(([127, 0, 0, 1], 0))).await);
    }
    let load = Arc::new(Load::default());
    let client = |codec| {
        let builder = Client::builder().registry(Arc::clone(&registry) as _).config(patient().with_codec(codec));
        builder.build().unwrap()
    };
    let mut callers = Vec::new();
    for codec in [Codec::Bincode, Codec::Bincode, Codec::MessagePack] {
        callers.push(Task::begin(call_as_one(Arc::clone(&load), client(codec))));
        callers.push(Task::begin(call_as_two(Arc::clone(&load), client(codec))));
    }
    for version in [second as fn() -> ServerBuilder, first, second] {
        for server in &mut servers {
            load.proceed(200).await;
            let address = server.address();
            server.stop();
            server.ended().await.unwrap();
            *server = start(version, address).await;
        }
        load.proceed(200).await;
    }
    load.stops.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.end().await;
    }
}
