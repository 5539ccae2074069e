//! A scripted conversation across nodes, one of which is killed during it.

use std::time::{Duration, Instant};

use msnb::app::Failure;
use rpc_im::{
    client::{Client, Event, LoggedIn, health, login},
    envelope::Recipient,
};
use tokio::time::{sleep, timeout};

use crate::cluster::{Cluster, Node};

/// Runs the conversation. Returns an error if a message is lost, duplicated or out of order.
pub(crate) async fn run(mut cluster: Cluster) -> Result<(), Failure> {
    for node in cluster.nodes() {
        wait_until_ready(node).await?;
        println!("node {} serves {}", node.name(), node.url());
    }
    let [first, second, ..] = cluster.nodes() else { return Err("the demo needs at least two nodes".into()) };
    let mut ann = Participant::connect("ann", first).await?;
    let mut bo = Participant::connect("bo", second).await?;
    println!("ann is connected to node {}, bo to node {}", ann.node, bo.node);

    for (from_ann, from_bo) in [("hello bo, from another node", "hello ann"), ("how is it there?", "quiet so far")] {
        ann.talk(from_ann, &mut bo).await?;
        bo.talk(from_bo, &mut ann).await?;
    }

    let killed_node = bo.node.clone();
    println!("  … kill -9 of node {killed_node}, to which bo is connected");
    cluster.kill(&killed_node).await?;
    let killed_at = Instant::now();
    // ann sends without waiting for bo.
    ann.send("bo? are you still there?").await;
    ann.send("well, you will read this later").await;
    bo.wait_until_connected().await?;
    println!("  … bo is connected to node {} after {:.1} s", bo.node, killed_at.elapsed().as_secs_f64());
    bo.expect(&ann, "bo? are you still there?").await?;
    bo.expect(&ann, "well, you will read this later").await?;
    bo.talk("my node was killed; I am on another one, and have read all", &mut ann).await?;
    ann.talk("then nothing was lost", &mut bo).await?;

    let storing_node = cluster.restart_storing_node().await?;
    println!("  … kill -9 and restart of node {storing_node}, which has the store");
    bo.talk("and now?", &mut ann).await?;
    ann.talk("still nothing lost", &mut bo).await?;

    println!("{} messages: each was delivered once and in order", ann.received + bo.received);
    cluster.stop().await
}

/// A user with one client.
struct Participant {
    name: &'static str,
    to: &'static str,
    client: Client,
    node: String,
    sent: u64,
    received: u64,
    last: u64,
}

impl Participant {
    /// Logs in and connects; tries `node` first.
    async fn connect(name: &'static str, node: &Node) -> Result<Self, Failure> {
        let LoggedIn { token, mut nodes } = login(node.url(), name, "", "demo", "demo").await?;
        let host = node.url().trim_start_matches("http://").trim_end_matches('/');
        nodes.retain(|known| !known.contains(host));
        nodes.insert(0, format!("ws://{host}/ws"));
        let client = Client::start(LoggedIn { token, nodes });
        let to = if name == "ann" { "bo" } else { "ann" };
        let mut participant = Self { name, to, client, node: String::new(), sent: 0, received: 0, last: 0 };
        participant.wait_until_connected().await?;
        Ok(participant)
    }

    /// Sends a message and expects it at `other`.
    async fn talk(&mut self, body: &str, other: &mut Self) -> Result<(), Failure> {
        self.send(body).await;
        other.expect(self, body).await
    }

    async fn send(&mut self, body: &str) {
        self.sent += 1;
        let id = format!("{}-{}", self.name, self.sent);
        self.client.send(id, Recipient::User(self.to.to_owned()), body.to_owned()).await;
    }

    /// Expects this message as the next one.
    async fn expect(&mut self, from: &Self, body: &str) -> Result<(), Failure> {
        loop {
            let Event::Message(push) = self.next().await? else { continue };
            if push.from == self.name {
                // Its node was killed before the confirmation arrived, so the sync after it has the message.
                self.last = push.seq;
                continue;
            }
            if push.from != from.name || push.body != body || push.seq <= self.last {
                return Err(
                    format!("{} received {:?}, number {}, expected {body:?}", self.name, push.body, push.seq).into()
                );
            }
            (self.last, self.received) = (push.seq, self.received + 1);
            println!("{:>4} → {:<4} {body}", from.name, self.name);
            return Ok(());
        }
    }

    async fn wait_until_connected(&mut self) -> Result<(), Failure> {
        loop {
            if let Event::Connected { node } = self.next().await? {
                self.node = node;
                return Ok(());
            }
        }
    }

    async fn next(&mut self) -> Result<Event, Failure> {
        match timeout(STEP_TIMEOUT, self.client.next()).await {
            Ok(Some(Event::Failed { reason, .. } | Event::Ended { reason })) => {
                Err(format!("{} received an error: {reason}", self.name).into())
            }
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err("the client ended".into()),
            Err(_) => Err(format!("{} received nothing within {STEP_TIMEOUT:?}", self.name).into()),
        }
    }
}

/// Waits until a node has discovered the others and accepts logins.
async fn wait_until_ready(node: &Node) -> Result<(), Failure> {
    let ready = async {
        while !health(node.url()).await.unwrap_or(false) {
            sleep(POLL_INTERVAL).await;
        }
    };
    timeout(STEP_TIMEOUT, ready)
        .await
        .map_err(|_| format!("node {} is not ready within {STEP_TIMEOUT:?}", node.name()))?;
    Ok(())
}

/// The time limit of each step.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// The time between two readiness checks of a node.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
