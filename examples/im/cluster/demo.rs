//! A talk across nodes, one of which is killed in the middle of it.

use std::time::{Duration, Instant};

use examples::Failure;
use rpc_im::{
    client::{Client, Event, LoggedIn, health, login},
    envelope::Recipient,
};
use tokio::time::{sleep, timeout};

use crate::cluster::{Cluster, Node};

/// Plays the talk; an error when a message is lost, comes twice, or comes out of order.
pub(crate) async fn play(mut cluster: Cluster) -> Result<(), Failure> {
    for node in cluster.nodes() {
        until_ready(node).await?;
        println!("node {} is at {}", node.name(), node.url());
    }
    let [first, second, ..] = cluster.nodes() else { return Err("a talk across nodes needs two".into()) };
    let mut ann = Person::enter("ann", first).await?;
    let mut bo = Person::enter("bo", second).await?;
    println!("ann is on node {}, bo is on node {}", ann.node, bo.node);

    for (from_ann, from_bo) in [("hello bo, from another node", "hello ann"), ("how is it there?", "quiet so far")] {
        ann.says(from_ann, &mut bo).await?;
        bo.says(from_bo, &mut ann).await?;
    }

    let gone = bo.node.clone();
    println!("  … kill -9 of node {gone}, on which bo is");
    cluster.kill(&gone).await?;
    let killed = Instant::now();
    // Ann does not wait for anybody.
    ann.sends("bo? are you still there?").await;
    ann.sends("well, you will read this later").await;
    bo.until_connected().await?;
    println!("  … bo is on node {} after {:.1} s", bo.node, killed.elapsed().as_secs_f64());
    bo.hears(&ann, "bo? are you still there?").await?;
    bo.hears(&ann, "well, you will read this later").await?;
    bo.says("my node was killed; I am on another one, and have read all", &mut ann).await?;
    ann.says("then nothing was lost", &mut bo).await?;

    println!("{} messages: each came once and in its order", ann.heard + bo.heard);
    cluster.stop().await
}

/// Somebody who talks.
struct Person {
    name: &'static str,
    to: &'static str,
    client: Client,
    node: String,
    sent: u64,
    heard: u64,
    last: u64,
}

impl Person {
    /// Logs in, and connects to that node first.
    async fn enter(name: &'static str, node: &Node) -> Result<Self, Failure> {
        let LoggedIn { token, mut nodes } = login(node.url(), name, "", "demo", "demo").await?;
        let host = node.url().trim_start_matches("http://").trim_end_matches('/');
        nodes.retain(|known| !known.contains(host));
        nodes.insert(0, format!("ws://{host}/ws"));
        let client = Client::start(LoggedIn { token, nodes });
        let to = if name == "ann" { "bo" } else { "ann" };
        let mut person = Self { name, to, client, node: String::new(), sent: 0, heard: 0, last: 0 };
        person.until_connected().await?;
        Ok(person)
    }

    async fn says(&mut self, body: &str, other: &mut Self) -> Result<(), Failure> {
        self.sends(body).await;
        other.hears(self, body).await
    }

    async fn sends(&mut self, body: &str) {
        self.sent += 1;
        let id = format!("{}-{}", self.name, self.sent);
        self.client.send(id, Recipient::User(self.to.to_owned()), body.to_owned()).await;
    }

    /// The next message is this one.
    async fn hears(&mut self, from: &Self, body: &str) -> Result<(), Failure> {
        loop {
            let Event::Message(push) = self.next().await? else { continue };
            if push.from != from.name || push.body != body || push.seq <= self.last {
                return Err(
                    format!("{} heard {:?}, number {}, instead of {body:?}", self.name, push.body, push.seq).into()
                );
            }
            (self.last, self.heard) = (push.seq, self.heard + 1);
            println!("{:>4} → {:<4} {body}", from.name, self.name);
            return Ok(());
        }
    }

    async fn until_connected(&mut self) -> Result<(), Failure> {
        loop {
            if let Event::Connected { node } = self.next().await? {
                self.node = node;
                return Ok(());
            }
        }
    }

    async fn next(&mut self) -> Result<Event, Failure> {
        match timeout(PATIENCE, self.client.next()).await {
            Ok(Some(Event::Failed { reason, .. } | Event::Ended { reason })) => {
                Err(format!("{} was told: {reason}", self.name).into())
            }
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err("the client has ended".into()),
            Err(_) => Err(format!("{} waited for too long", self.name).into()),
        }
    }
}

/// Waits until a node has found the others and takes logins.
async fn until_ready(node: &Node) -> Result<(), Failure> {
    let ready = async {
        while !health(node.url()).await.unwrap_or(false) {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, ready).await.map_err(|_| format!("node {} takes no logins", node.name()))?;
    Ok(())
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a node is asked whether it is ready.
const LOOK: Duration = Duration::from_millis(50);
