//! [`Engines`]: the store, the directory and the membership of a node, by its configuration.

use std::sync::Arc;

use rpc_client::Client;
use rpc_core::{Code, Discovery, Error};

use crate::{
    config::{DirectoryChoice, MembershipChoice, NodeConfig, StoreChoice},
    directory::{Directory, MemoryDirectory, RemoteDirectory},
    membership::{Membership, registry::RegistryMembership},
    store::{MessageStore, MonitoredStore, RedbStore, RemoteStore, StoreError},
};

/// The store, the directory and the membership of a node.
pub(super) struct Engines {
    pub(super) store: Arc<MonitoredStore>,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) membership: Arc<dyn Membership>,
    /// Whether other nodes use the store of this node.
    pub(super) serves_store: bool,
    /// Whether other nodes use the directory of this node.
    pub(super) serves_directory: bool,
}

impl Engines {
    pub(super) async fn open(config: &NodeConfig, client: &Client) -> Result<Self, Error> {
        let store: Arc<dyn MessageStore> = match &config.store {
            StoreChoice::Custom(store) => Arc::clone(store),
            StoreChoice::Node(address) => Arc::new(RemoteStore::new(client.clone(), *address)),
            StoreChoice::File(path) => open_file(Some(path.clone())).await?,
            StoreChoice::Memory => open_file(None).await?,
        };
        let directory: Arc<dyn Directory> = match (&config.directory, &config.store) {
            (DirectoryChoice::Custom(directory), _) => Arc::clone(directory),
            (DirectoryChoice::StoringNode, StoreChoice::Node(address)) => {
                Arc::new(RemoteDirectory::new(client.clone(), *address))
            }
            (DirectoryChoice::StoringNode, _) => Arc::new(MemoryDirectory::new()),
        };
        let membership: Arc<dyn Membership> = match &config.membership {
            MembershipChoice::Registry => {
                Arc::new(RegistryMembership::new(Arc::clone(&config.registry) as Arc<dyn Discovery>))
            }
            MembershipChoice::Custom(membership) => Arc::clone(membership),
        };
        let serves_store = matches!(config.store, StoreChoice::Memory | StoreChoice::File(_));
        let serves_directory = serves_store && matches!(config.directory, DirectoryChoice::StoringNode);
        let store = Arc::new(MonitoredStore::new(store));
        Ok(Self { store, directory, membership, serves_store, serves_directory })
    }
}

async fn open_file(path: Option<std::path::PathBuf>) -> Result<Arc<dyn MessageStore>, Error> {
    let opened = tokio::task::spawn_blocking(move || RedbStore::open(path.as_deref())).await;
    let opened = opened.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())));
    match opened {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) => Err(Error::not_executed(Code::Unavailable, error.to_string()).with_source(error)),
    }
}
