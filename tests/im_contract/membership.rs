//! The contract of [`Membership`]: tests that each engine passes. A test does nothing if the machine lacks the engine.

#![expect(clippy::unwrap_used, reason = "a panic reports the failing line")]

use std::sync::Arc;

use rpc_core::Code;
use rpc_im::{
    Node, NodeConfig, NodeId,
    membership::{Member, Membership, NewMember, SqlMembership, ZooKeeperMembership},
};

use crate::{
    engines::{mariadb::MariaDbServer, postgres::PostgresServer, zookeeper::ZooKeeperServer},
    im::until,
    in_time,
};

/// A server of an engine.
#[expect(async_fn_in_trait, reason = "the tests run on one thread")]
pub trait Engine: Sized {
    /// The implementation.
    type Membership: Membership;

    /// Starts a server, if this machine has the engine.
    async fn start() -> Option<Self>;

    /// Creates the handle of a node.
    fn connect(&self) -> Self::Membership;

    /// Kills the server.
    fn kill(&mut self);

    /// Kills the server, and removes its data.
    fn kill_and_erase(&mut self);

    /// Starts the server again.
    async fn restart(&mut self);
}

impl Engine for ZooKeeperServer {
    type Membership = ZooKeeperMembership;

    async fn start() -> Option<Self> {
        Self::start().await
    }

    fn connect(&self) -> ZooKeeperMembership {
        ZooKeeperMembership::connect(&format!("{}/test", self.url())).unwrap()
    }

    fn kill(&mut self) {
        self.kill();
    }

    fn kill_and_erase(&mut self) {
        self.kill_and_erase();
    }

    async fn restart(&mut self) {
        self.restart().await;
    }
}

impl Engine for PostgresServer {
    type Membership = SqlMembership;

    async fn start() -> Option<Self> {
        Self::start().await
    }

    fn connect(&self) -> SqlMembership {
        SqlMembership::connect(&self.url()).unwrap()
    }

    fn kill(&mut self) {
        self.kill();
    }

    fn kill_and_erase(&mut self) {
        self.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
        self.kill();
    }

    async fn restart(&mut self) {
        self.restart().await;
    }
}

impl Engine for MariaDbServer {
    type Membership = SqlMembership;

    async fn start() -> Option<Self> {
        Self::start().await
    }

    fn connect(&self) -> SqlMembership {
        SqlMembership::connect(&self.url()).unwrap()
    }

    fn kill(&mut self) {
        self.kill();
    }

    fn kill_and_erase(&mut self) {
        self.query("DROP DATABASE im; CREATE DATABASE im");
        self.kill();
    }

    async fn restart(&mut self) {
        self.restart().await;
    }
}

fn description(number: u16) -> NewMember {
    NewMember { address: ([127, 0, 0, 1], number).into(), websocket: format!("ws://node{number}") }
}

fn member(id: NodeId, number: u16) -> Member {
    let NewMember { address, websocket } = description(number);
    Member { id, address, websocket }
}

/// Waits until the list has these members.
async fn until_listed(membership: &impl Membership, mut expected: Vec<Member>) {
    expected.sort_by_key(|member| member.id);
    let mut watch = membership.watch();
    let is_expected = |list: &Option<Arc<[Member]>>| list.as_deref() == Some(&expected[..]);
    drop(in_time(watch.wait_for(is_expected)).await.unwrap());
}

/// Nodes that find each other in the registry of msnb see the running ones; each run has another id.
///
/// The server of a node registers it, so this test has nodes instead of handles.
pub async fn registry_lists_running_nodes(url: &str) {
    let start = async || {
        let registry = in_time(rpc_registry::connect(url)).await.unwrap();
        in_time(Node::start(NodeConfig::new(registry, "ws://node/ws"))).await.unwrap()
    };
    let until_seen = async |node: &Node, expected: &[&Node]| {
        let mut expected: Vec<_> = expected.iter().map(|node| (node.id(), node.rpc_address())).collect();
        expected.sort();
        let is_seen = || node.nodes().iter().map(|node| (node.id, node.address)).eq(expected.iter().copied());
        until(is_seen).await;
    };
    let (one, other) = (start().await, start().await);
    until_seen(&one, &[&one, &other]).await;
    until_seen(&other, &[&one, &other]).await;
    in_time(other.drain()).await;
    until_seen(&one, &[&one]).await;
    let (first, again) = (other.id(), start().await);
    assert_ne!(first, again.id(), "another run of the node has another id");
    until_seen(&one, &[&one, &again]).await;
    drop(again);
    until_seen(&one, &[&one]).await;
}

/// All nodes list all nodes.
pub async fn nodes_see_each_other<E: Engine>() {
    let Some(engine) = E::start().await else { return };
    let (one, other) = (engine.connect(), engine.connect());
    until_listed(&one, vec![]).await;
    let first = member(in_time(one.join(description(1))).await.unwrap(), 1);
    until_listed(&other, vec![first.clone()]).await;
    let second = member(in_time(other.join(description(2))).await.unwrap(), 2);
    assert_ne!(first.id, second.id);
    for membership in [&one, &other] {
        until_listed(membership, vec![first.clone(), second.clone()]).await;
    }
}

/// A node joins once.
pub async fn second_join_is_rejected<E: Engine>() {
    let Some(engine) = E::start().await else { return };
    let membership = engine.connect();
    let id = in_time(membership.join(description(1))).await.unwrap();
    let error = in_time(membership.join(description(2))).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    until_listed(&membership, vec![member(id, 1)]).await;
}

/// A node that leaves, or that ends, is not listed; when it joins again, it has another id.
pub async fn leaving_node_is_removed<E: Engine>() {
    let Some(engine) = E::start().await else { return };
    let (one, other) = (engine.connect(), engine.connect());
    let first = in_time(one.join(description(1))).await.unwrap();
    let second = in_time(other.join(description(2))).await.unwrap();
    until_listed(&other, vec![member(first, 1), member(second, 2)]).await;
    in_time(one.leave()).await;
    for membership in [&one, &other] {
        until_listed(membership, vec![member(second, 2)]).await;
    }
    let again = in_time(one.join(description(1))).await.unwrap();
    assert_ne!(first, again, "another run of the node has another id");
    until_listed(&other, vec![member(second, 2), member(again, 1)]).await;
    drop(one);
    until_listed(&other, vec![member(second, 2)]).await;
}

/// A restart of the engine changes neither the members nor their ids.
pub async fn restarted_engine_keeps_the_members<E: Engine>() {
    let Some(mut engine) = E::start().await else { return };
    let (one, other) = (engine.connect(), engine.connect());
    let first = member(in_time(one.join(description(1))).await.unwrap(), 1);
    let second = member(in_time(other.join(description(2))).await.unwrap(), 2);
    for membership in [&one, &other] {
        until_listed(membership, vec![first.clone(), second.clone()]).await;
    }
    engine.kill();
    engine.restart().await;
    let third = engine.connect();
    let third_member = member(in_time(third.join(description(3))).await.unwrap(), 3);
    for membership in [&one, &other, &third] {
        until_listed(membership, vec![first.clone(), second.clone(), third_member.clone()]).await;
    }
}

/// When the engine has lost its data, the nodes join again under their ids.
pub async fn erased_engine_gets_the_same_ids_again<E: Engine>() {
    let Some(mut engine) = E::start().await else { return };
    let (one, other) = (engine.connect(), engine.connect());
    let first = member(in_time(one.join(description(1))).await.unwrap(), 1);
    let second = member(in_time(other.join(description(2))).await.unwrap(), 2);
    until_listed(&one, vec![first.clone(), second.clone()]).await;
    engine.kill_and_erase();
    assert_eq!(one.watch().borrow().as_ref().map(|list| list.len()), Some(2), "the list remains");
    engine.restart().await;
    let third = engine.connect();
    let third_member = member(in_time(third.join(description(3))).await.unwrap(), 3);
    for membership in [&one, &other, &third] {
        until_listed(membership, vec![first.clone(), second.clone(), third_member.clone()]).await;
    }
}

/// A join fails in bounded time while the engine is down, and succeeds later.
pub async fn unreachable_engine_rejects_join<E: Engine>() {
    let Some(mut engine) = E::start().await else { return };
    engine.kill();
    let membership = engine.connect();
    let error = in_time(membership.join(description(1))).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(*membership.watch().borrow(), None);
    in_time(membership.leave()).await;
    engine.restart().await;
    let id = in_time(membership.join(description(1))).await.unwrap();
    until_listed(&membership, vec![member(id, 1)]).await;
}
