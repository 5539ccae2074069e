//! A real nginx with the example's configuration in front of two nodes.

use std::{fs, path::Path, process::Stdio, time::Duration};

use rpc_im::{
    client::{Client, Event, health, login},
    envelope::Recipient,
};
use tests::{im_nodes::Nodes, in_time, relay::free_address};
use tokio::{process::Command, time::sleep};

const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/im/nginx.conf");

/// Returns the body of the next message, and the number of disconnections before it.
async fn next_message(client: &mut Client) -> (String, u32) {
    let mut losses = 0;
    loop {
        match in_time(client.next()).await.expect("the client has not ended") {
            Event::Message(push) => return (push.body, losses),
            Event::Disconnected => losses += 1,
            Event::Failed { reason, .. } | Event::Ended { reason } => panic!("{reason}"),
            _ => {}
        }
    }
}

async fn send_message(client: &Client, id: &str, to: &str) {
    client.send(id.to_owned(), Recipient::User(to.to_owned()), id.to_owned()).await;
}

async fn until_connected(client: &mut Client) -> String {
    loop {
        if let Event::Connected { node } = in_time(client.next()).await.expect("the client has not ended") {
            return node;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_routes_clients_to_other_node_after_kill() {
    if let Err(error) = std::process::Command::new("nginx").arg("-v").stderr(Stdio::null()).status() {
        eprintln!("SKIPPED: there is no nginx on the path ({error}); Debian package: nginx");
        return;
    }
    let gateway = free_address();
    let websocket = format!("ws://{gateway}/ws");
    let registry = tempfile::tempdir().expect("the directory can be created");
    let registry = format!("local:{}", registry.path().display());
    let mut nodes = Nodes::start(2, &registry, &["--websocket", &websocket]).await;

    let directory = tempfile::tempdir().expect("the directory can be created");
    let mut configuration = fs::read_to_string(CONFIGURATION).expect("the example configuration is readable");
    for (example, replacement) in [
        ("listen 8080;", format!("listen {gateway};")),
        ("127.0.0.1:9001 ", nodes.base(0).replace("http://", "") + " "),
        ("127.0.0.1:9002 ", nodes.base(1).replace("http://", "") + " "),
    ] {
        assert_eq!(configuration.matches(example).count(), if example.starts_with("listen") { 1 } else { 2 });
        configuration = configuration.replace(example, &replacement);
    }
    let path = directory.path().join("nginx.conf");
    fs::write(&path, configuration).expect("the configuration can be written");
    let mut nginx = start(directory.path(), &path);
    let base = format!("http://{gateway}");
    in_time(async {
        while !health(&base).await.unwrap_or(false) {
            assert!(nginx.try_wait().expect("nginx is a child process").is_none(), "nginx rejects the configuration");
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;

    // Two users on different nodes: nginx distributes connections over both.
    let ann = login(&base, "ann", "", "browser", "web").await.expect("the login through nginx succeeds");
    assert_eq!(ann.nodes, [websocket.clone(), websocket], "the gate returns the address of nginx");
    let mut ann = Client::start(ann);
    let first_node = until_connected(&mut ann).await;
    let bo = login(&base, "bo", "", "browser", "web").await.expect("the login through nginx succeeds");
    let (mut bo, node) = in_time(async {
        loop {
            let mut client = Client::start(bo.clone());
            let node = until_connected(&mut client).await;
            if node != first_node {
                return (client, node);
            }
        }
    })
    .await;
    send_message(&ann, "over nginx", "bo").await;
    assert_eq!(next_message(&mut bo).await, ("over nginx".to_owned(), 0));
    send_message(&bo, "and back", "ann").await;
    assert_eq!(next_message(&mut ann).await, ("and back".to_owned(), 0));

    let number: usize = node.parse().expect("a node's name is its number");
    nodes.kill(number - 1).await;
    send_message(&ann, "while your node is gone", "bo").await;
    assert_eq!(next_message(&mut bo).await, ("while your node is gone".to_owned(), 1));
    send_message(&bo, "on the other node", "ann").await;
    assert_eq!(next_message(&mut ann).await, ("on the other node".to_owned(), 0));
    assert!(health(&base).await.expect("nginx answers"), "logins go to the other node");
    nginx.kill().await.expect("nginx is a running child process");
}

/// Starts nginx in the foreground as a single process; dropping it kills the process.
fn start(directory: &Path, configuration: &Path) -> tokio::process::Child {
    Command::new("nginx")
        .arg("-p")
        .arg(directory)
        .arg("-c")
        .arg(configuration)
        .args(["-g", "daemon off; master_process off;"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("nginx starts")
}
