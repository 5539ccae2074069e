//! [`Node`]: a provider or a consumer of a cluster.

use std::sync::{Arc, Mutex, PoisonError};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use rpc_client::{Client, ClientConfig};
use rpc_core::Error;
use rpc_registry::Memory;

use crate::network::Network;

/// A provider or a consumer of a [`Cluster`](crate::Cluster), which may call the providers.
#[derive(Debug, Clone)]
pub struct Node {
    registry: String,
    seeds: Arc<Mutex<SmallRng>>,
}

impl Node {
    pub(crate) fn new(registry: &str, rng: &mut SmallRng) -> Self {
        let seeds = Arc::new(Mutex::new(SmallRng::seed_from_u64(rng.next_u64())));
        Self { registry: registry.to_owned(), seeds }
    }

    pub(crate) fn registry(&self) -> Arc<Memory> {
        Arc::new(Memory::named(&self.registry))
    }

    /// Creates a client with the default configuration, which finds the providers of the cluster.
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::build`](rpc_client::ClientBuilder::build).
    pub fn client(&self) -> Result<Client, Error> {
        self.client_with(ClientConfig::default())
    }

    /// Creates a client with this configuration, except for its seed and its directory for lists of providers.
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::build`](rpc_client::ClientBuilder::build).
    pub fn client_with(&self, config: ClientConfig) -> Result<Client, Error> {
        let seed = self.seeds.lock().unwrap_or_else(PoisonError::into_inner).next_u64();
        let config = config.with_seed(Some(seed)).with_cache_directory(None);
        Client::builder().registry(self.registry()).connector(Network).config(config).build()
    }
}
