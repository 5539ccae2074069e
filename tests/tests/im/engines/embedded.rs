//! The engines in nodes pass the tests of every engine.

use std::sync::Arc;

use rpc_client::{Client, ClientConfig};
use rpc_im::{
    Node, NodeConfig,
    directory::{Directory, MemoryDirectory, RemoteDirectory},
    store::{MessageStore, RedbStore, RemoteStore},
};
use tests::im_contract;

#[tokio::test(flavor = "multi_thread")]
async fn file_passes_the_store_contract() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn MessageStore> = Arc::new(RedbStore::open(Some(&directory.path().join("messages"))).unwrap());
    im_contract::store::check(&[Arc::clone(&store), Arc::clone(&store), store]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_passes_the_directory_contract() {
    let directory: Arc<dyn Directory> = Arc::new(MemoryDirectory::new());
    im_contract::directory::check(&[Arc::clone(&directory), Arc::clone(&directory), directory]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn storing_node_passes_the_directory_contract() {
    let (node, clients) = storing_node("directory").await;
    let remote = |client| Arc::new(RemoteDirectory::new(client, node.rpc_address())) as Arc<dyn Directory>;
    im_contract::directory::check(&clients.map(remote)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn storing_node_passes_the_store_contract() {
    let (node, clients) = storing_node("store").await;
    let remote = |client| Arc::new(RemoteStore::new(client, node.rpc_address())) as Arc<dyn MessageStore>;
    im_contract::store::check_requests(&clients.map(remote)).await;
}

/// Starts a node that keeps messages in memory, and clients of three other nodes.
async fn storing_node(name: &str) -> (Node, [Client; 3]) {
    let registry = Arc::new(rpc_registry::Memory::named(name));
    let node = Node::start(NodeConfig::new(registry, "ws://node/ws")).await.unwrap();
    let client = || Client::builder().config(ClientConfig::default().with_cache_directory(None)).build().unwrap();
    (node, [client(), client(), client()])
}
