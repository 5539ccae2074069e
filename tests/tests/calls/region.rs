//! The service `test.Region:1.0`, for tests of routing.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use rpc_client::{Client, ClientConfig};
use rpc_core::{Streaming, rpc_service};
use rpc_registry::Memory;
use rpc_server::{Server, ServerBuilder};
use tests::{in_time, load::until_ready, serving::Serving};

#[rpc_service(name = "test.Region", version = "1.0")]
pub(crate) trait Region {
    /// Returns the name of the provider.
    #[rpc(idempotent)]
    async fn name(&self) -> String;

    /// Returns the name of the provider that serves a call of this handler.
    async fn relay(&self) -> String;

    /// As `name`, for one call at a time.
    #[rpc(max_running = 1)]
    async fn exclusive(&self) -> String;

    /// Sends items until the caller drops the stream.
    async fn watch(&self) -> Streaming<u64>;
}

#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) delay: Duration,
    pub(crate) inner: Option<Client>,
}

impl Region for Provider {
    async fn name(&self) -> String {
        tokio::time::sleep(self.delay).await;
        self.name.clone()
    }

    async fn relay(&self) -> String {
        let inner = self.inner.clone().expect("this provider has a client");
        RegionClient::new(inner).name().await.unwrap()
    }

    async fn exclusive(&self) -> String {
        self.name().await
    }

    async fn watch(&self) -> Streaming<u64> {
        Streaming::from_iterator(0..)
    }
}

/// The providers of one test, and their registry.
pub(crate) struct Scene {
    pub(crate) registry: Arc<Memory>,
    pub(crate) serving: BTreeMap<String, Serving>,
}

impl Scene {
    pub(crate) fn new(name: &str) -> Self {
        Self { registry: Arc::new(Memory::named(name)), serving: BTreeMap::new() }
    }

    pub(crate) async fn add(&mut self, name: &str, extend: impl FnOnce(ServerBuilder) -> ServerBuilder) {
        self.add_provider(name, Duration::ZERO, None, extend).await;
    }

    pub(crate) async fn add_provider(
        &mut self,
        name: &str,
        delay: Duration,
        inner: Option<Client>,
        extend: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) {
        let provider = Provider { name: name.to_owned(), delay, inner };
        let builder = Server::builder().service(RegionServer::new(provider)).registry(Arc::clone(&self.registry) as _);
        self.serving.insert(name.to_owned(), Serving::start(extend(builder)).await);
    }

    pub(crate) fn client(&self, config: ClientConfig) -> Client {
        let config = config.with_cache_directory(None);
        Client::builder().registry(Arc::clone(&self.registry) as _).config(config).build().unwrap()
    }

    /// Returns a client that is connected to all providers.
    pub(crate) async fn connected(&self, config: ClientConfig) -> Client {
        let client = self.client(config);
        drop(RegionClient::new(client.clone()).name().timeout(Duration::from_millis(1)).await);
        until_ready(&client, &self.addresses()).await;
        client
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.serving.values().map(Serving::address).collect()
    }
}

/// Makes calls one after another, and returns how many of them each provider answered.
pub(crate) async fn shares(client: &Client, calls: usize) -> BTreeMap<String, usize> {
    let (region, mut shares) = (RegionClient::new(client.clone()), BTreeMap::new());
    for _ in 0..calls {
        *shares.entry(in_time(region.name()).await.unwrap()).or_default() += 1;
    }
    shares
}

pub(crate) fn without_zone() -> ClientConfig {
    ClientConfig::default().with_zone(None)
}
