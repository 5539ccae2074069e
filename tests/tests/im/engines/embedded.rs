//! The engines in nodes pass the tests of every engine.

use std::sync::Arc;

use rpc_client::{Client, ClientConfig};
use rpc_im::{
    Node, NodeConfig, StoreChoice,
    auth::Secret,
    directory::{Directory, MemoryDirectory, RemoteDirectory},
    store::{MessageStore, RedbStore, RemoteStore, StoreError},
};
use tests::{im::until, im_contract};

#[tokio::test(flavor = "multi_thread")]
async fn file_passes_the_store_contract() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn MessageStore> = Arc::new(RedbStore::open(Some(&directory.path().join("messages"))).unwrap());
    im_contract::store::check(&[Arc::clone(&store), Arc::clone(&store), store]).await;
}

#[test]
fn file_is_readable_by_its_user_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    drop(RedbStore::open(Some(&path)).unwrap());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    RedbStore::open(Some(&path)).expect("the store opens again");
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

#[tokio::test]
async fn storing_node_requires_the_secret_of_the_cluster() {
    let registry: Arc<dyn rpc_registry::Backend> = Arc::new(rpc_registry::Memory::named("secret"));
    let config = NodeConfig::new(Arc::clone(&registry), "ws://node/ws");
    let secret = Secret::random();
    let node = Node::start(config.clone().with_secret(Some(secret.clone()))).await.unwrap();
    let store = RemoteStore::new(client(), node.rpc_address());
    let read = store.conversations("ann".to_owned(), String::new(), 10).await;
    assert!(matches!(read, Err(StoreError::Unavailable(reason)) if reason.contains("Unauthenticated")));

    let member = |secret| {
        let config = config.clone().with_secret(Some(secret)).with_store(StoreChoice::Node(node.rpc_address()));
        async { Node::start(config).await.unwrap() }
    };
    let (member, stranger) = (member(secret).await, member(Secret::random()).await);
    until(|| member.is_ready()).await;
    assert!(!stranger.is_ready());
    let names = node.nodes().into_iter().map(|node| node.id).collect::<Vec<_>>();
    assert!(!names.contains(&stranger.id()));

    let open = Node::start(config.with_listen(([0, 0, 0, 0], 0).into())).await.unwrap_err();
    assert!(open.to_string().contains("NodeConfig::secret"), "{open}");
}

/// Starts a node that keeps messages in memory, and clients of three other nodes.
async fn storing_node(name: &str) -> (Node, [Client; 3]) {
    let registry = Arc::new(rpc_registry::Memory::named(name));
    let node = Node::start(NodeConfig::new(registry, "ws://node/ws")).await.unwrap();
    (node, [client(), client(), client()])
}

fn client() -> Client {
    Client::builder().config(ClientConfig::default().with_cache_directory(None)).build().unwrap()
}
