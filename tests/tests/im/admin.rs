//! The RPC service of administrators.

use std::{fs, sync::Arc};

use rpc_client::{Client, ClientConfig};
use rpc_core::{Code, Token};
use rpc_im::{AdminClient, Node, NodeConfig, auth::Secret, envelope::ServerFrame};
use tests::{im::Cluster, im_nodes::Nodes, in_time, program::Program};

#[tokio::test]
async fn administrator_lists_and_ends_sessions_on_all_nodes() {
    let cluster = Cluster::start(2).await;
    let mut phone = cluster.client_on(0, "ann", "phone", "ios").await.unwrap();
    let mut browser = cluster.client_on(1, "ann", "browser", "web").await.unwrap();
    let admin = AdminClient::new(client(None));
    let node = cluster.node(0).rpc_address();
    let sessions = admin.sessions("ann".to_owned()).address(node).await.unwrap();
    let mut devices: Vec<_> = sessions.iter().map(|entry| (entry.device.as_str(), entry.node)).collect();
    devices.sort_unstable();
    assert_eq!(devices, [("browser", cluster.node(1).id()), ("phone", cluster.node(0).id())]);

    assert_eq!(admin.log_out("ann".to_owned(), Some("browser".to_owned())).address(node).await.unwrap(), 1);
    let kicked = |frame: &ServerFrame| match frame {
        ServerFrame::Kick(kick) => Some(kick.reason.clone()),
        _ => None,
    };
    assert_eq!(browser.until(kicked).await, "logged out by an administrator");
    // The entry of a session is removed after the session was dropped.
    drop(browser);
    in_time(async { while admin.sessions("ann".to_owned()).address(node).await.unwrap().len() > 1 {} }).await;
    assert_eq!(admin.log_out("ann".to_owned(), None).address(cluster.node(1).rpc_address()).await.unwrap(), 1);
    assert_eq!(phone.until(kicked).await, "logged out by an administrator");
    assert_eq!(admin.log_out("nobody".to_owned(), None).address(node).await.unwrap(), 0);

    let statistics = admin.statistics().address(node).await.unwrap();
    assert!(statistics.ready);
    assert_eq!((statistics.node.address, statistics.nodes.len()), (node, 2));
}

#[tokio::test]
async fn administrator_proves_the_secret_of_the_cluster() {
    let registry = Arc::new(rpc_registry::Memory::named("admin"));
    let secret = Secret::random();
    let config = NodeConfig::new(registry, "ws://node/ws").with_secret(Some(secret.clone()));
    let node = Node::start(config).await.unwrap();
    let statistics = async |token| {
        let admin = AdminClient::new(client(token));
        in_time(admin.statistics().address(node.rpc_address())).await.map(|statistics| statistics.node.id)
    };
    for token in [None, Some(Secret::random().admin_token())] {
        assert_eq!(statistics(token).await.unwrap_err().code(), Code::Unauthenticated);
    }
    assert_eq!(statistics(Some(secret.admin_token())).await.unwrap(), node.id());
}

#[tokio::test]
async fn administrator_drains_a_node() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    fs::write(path("secret"), "secret of all nodes of this test").unwrap();
    let output = Program::run("im-node", &["--admin-token", "--secret", &path("secret")], &[]).await;
    fs::write(path("token"), output.stdout).unwrap();
    let registry = format!("local:{}", path("registry"));
    let mut nodes = Nodes::start(2, &registry, &[]).await;
    let admin = AdminClient::new(client(Some(Token::file(path("token")).unwrap())));
    in_time(admin.drain().address(nodes.rpc(1))).await.unwrap();
    assert!(nodes.ended(1).await.success());
    nodes.until_ready().await;
}

fn client(token: Option<Token>) -> Client {
    let client = Client::builder().config(ClientConfig::default().with_cache_directory(None));
    match token {
        Some(token) => client.token(token).build().unwrap(),
        None => client.build().unwrap(),
    }
}
