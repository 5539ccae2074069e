//! [`NodeRouter`]: the nodes that are alive, and the link to each of them.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rpc_client::Client;
use rpc_core::contained;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use super::{
    local_node::LocalNode,
    message::OutgoingMessage,
    peer_link::{LinkShared, PeerLink},
    view::{NodeInfo, View},
};
use crate::{identity::NodeId, membership::Member};

/// The nodes that are alive, and the link to each of them.
///
/// The router keeps a [`PeerLink`] to each node that the membership lists, and to each node that sends hellos, and
/// publishes a [`View`] of the nodes that answer hellos.
pub(crate) struct NodeRouter {
    local: Arc<LocalNode>,
    client: Client,
    shared: Arc<LinkShared>,
    links: Mutex<HashMap<SocketAddr, Link>>,
    /// The time of the last hello of each node that has sent one.
    hellos: Mutex<HashMap<SocketAddr, (NodeId, Instant)>>,
    view: watch::Sender<Arc<View>>,
}

struct Link {
    peer: Arc<PeerLink>,
    _tasks: JoinSet<()>,
}

impl NodeRouter {
    pub(crate) fn new(local: Arc<LocalNode>, client: Client, shared: Arc<LinkShared>) -> Self {
        let view = watch::Sender::new(Arc::new(View::new(vec![local.info()])));
        Self { local, client, shared, links: Mutex::default(), hellos: Mutex::default(), view }
    }

    /// Returns the nodes that are alive, the local one included.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a message to a node. If there is no link to it, its clients count as having missed a message.
    pub(crate) fn send(&self, node: NodeId, outgoing: OutgoingMessage) {
        match self.peer(node) {
            Some(peer) => peer.send(outgoing),
            None => {
                self.shared.missed().handle_missed(node);
                if let Some(from) = outgoing.message.from {
                    self.shared.sessions.kick(from, "the other side of the room is not connected");
                }
            }
        }
    }

    /// Sends a message to all other nodes, alive or not.
    pub(crate) fn broadcast(&self, outgoing: impl Fn() -> OutgoingMessage) {
        self.shared.missed().handle_broadcast();
        self.links().values().for_each(|link| link.peer.send(outgoing()));
    }

    /// Sends a hello to all nodes now.
    pub(crate) fn send_hello(&self) {
        self.links().values().for_each(|link| link.peer.send_hello());
    }

    /// Handles a hello; returns how often clients of the node may have missed messages.
    ///
    /// A node that the membership does not list yet gets a link too.
    pub(crate) fn handle_hello(&self, from: &NodeInfo) -> u64 {
        let known = self.hellos().insert(from.address, (from.id, Instant::now()));
        if known.is_none_or(|(id, _)| id != from.id) {
            self.shared.missed().handle_first_hello(from.id);
            self.shared.hello_done.notify_one();
        }
        // The node reaches this one, but this one perhaps not the node.
        if self.peer(from.id).is_some_and(|peer| peer.take_missed_if_unreachable(Instant::now())) {
            self.shared.missed().handle_missed(from.id);
        }
        self.shared.missed().count(from.id)
    }

    /// Follows the membership and the hellos until dropped.
    pub(crate) async fn run(&self, mut members: watch::Receiver<Option<Arc<[Member]>>>) {
        loop {
            let list = members.borrow_and_update().clone();
            self.update_links(list.as_deref().unwrap_or_default());
            self.publish();
            let changed = async {
                tokio::select! {
                    // Both branches are cancel safe: the next iteration reads the current state.
                    changed = members.changed() => if changed.is_err() {
                        // The engine has ended; its last list stays valid.
                        self.shared.hello_done.notified().await;
                    },
                    () = self.shared.hello_done.notified() => {}
                }
            };
            let _ = timeout(UPDATE_INTERVAL, changed).await;
        }
    }

    /// Keeps links to the listed nodes, to nodes that send hellos, and to nodes that answer.
    fn update_links(&self, list: &[Member]) {
        let now = Instant::now();
        let mut hellos = self.hellos();
        hellos.retain(|_, (_, at)| now - *at < self.shared.lease);
        let mut links = self.links();
        if list.len() > MAX_NODES {
            contained(|| {
                warn!(listed = list.len(), limit = MAX_NODES, "too many nodes are listed; ignoring the last ones")
            });
        }
        let listed: Vec<_> = list.iter().take(MAX_NODES).map(|member| member.address).collect();
        // A listed node may announce another address than the listed one, which is the one that is reachable from here.
        let has_link = |id: NodeId| links.values().any(|link| link.peer.last_id() == Some(id));
        let announced = hellos.iter().filter(|(_, (id, _))| !has_link(*id)).map(|(address, _)| address);
        let wanted: Vec<_> = listed.iter().chain(announced).copied().collect();
        for address in wanted.into_iter().filter(|address| *address != self.local.address()) {
            if links.len() < 2 * MAX_NODES {
                links.entry(address).or_insert_with(|| self.link(address));
            }
        }
        let of_listed = links.iter().filter(|(address, _)| listed.contains(address));
        let reached: HashSet<_> = of_listed.filter_map(|(_, link)| link.peer.last_id()).collect();
        links.retain(|address, link| {
            let is_listed = listed.contains(address);
            link.peer.set_listed(is_listed);
            let is_present = hellos.contains_key(address) || link.peer.alive(now).is_some();
            let id = link.peer.last_id();
            let is_kept = is_listed || is_present && id.is_none_or(|id| !reached.contains(&id));
            if let Some(id) = id.filter(|_| !is_kept) {
                // The queue of the link is lost, and what it has recorded.
                self.shared.missed().handle_missed(id);
            }
            is_kept
        });
    }

    fn link(&self, address: SocketAddr) -> Link {
        let peer = Arc::new(PeerLink::new(address, self.client.clone(), Arc::clone(&self.shared)));
        let mut tasks = JoinSet::new();
        let (hellos, queue, local) = (Arc::clone(&peer), Arc::clone(&peer), Arc::clone(&self.local));
        tasks.spawn(async move { hellos.run_hellos(&local).await });
        tasks.spawn(async move { queue.run_queue().await });
        Link { peer, _tasks: tasks }
    }

    /// Returns the link to a node that has answered a hello.
    fn peer(&self, id: NodeId) -> Option<Arc<PeerLink>> {
        let address = self.view.borrow().node(id).map(|node| node.address);
        let links = self.links();
        let has_id = |link: &&Link| link.peer.last_id() == Some(id);
        let link = address.and_then(|address| links.get(&address)).filter(has_id);
        // A node that is alive no longer is not in the view.
        let link = link.or_else(|| links.values().find(has_id))?;
        Some(Arc::clone(&link.peer))
    }

    fn publish(&self) {
        let now = Instant::now();
        let mut nodes = vec![self.local.info()];
        for (address, link) in &*self.links() {
            if let Some(info) = link.peer.alive(now)
                && nodes.iter().all(|node| node.id != info.id)
            {
                // The address of the link is the one that is reachable from here.
                nodes.push(NodeInfo { address: *address, ..info });
            }
        }
        let view = View::new(nodes);
        self.view.send_if_modified(|last| {
            if !last.has_same_nodes(&view) {
                let names: Vec<_> = view.nodes.iter().map(|node| node.name.as_str()).collect();
                contained(
                    || info!(node = self.local.name(), nodes = %names.join(" "), "the nodes of the cluster changed"),
                );
            }
            let is_lost = |node: &&NodeInfo| !node.draining && view.node(node.id).is_none();
            if last.nodes.iter().any(|node| is_lost(&node)) {
                // A node that has ended may not have sent all messages.
                self.shared.resync.request();
            }
            let is_new = **last != view;
            *last = Arc::new(view);
            is_new
        });
    }

    fn links(&self) -> MutexGuard<'_, HashMap<SocketAddr, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hellos(&self) -> MutexGuard<'_, HashMap<SocketAddr, (NodeId, Instant)>> {
        self.hellos.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The maximum time between two updates of the view: no event announces that a node is alive no longer.
const UPDATE_INTERVAL: Duration = Duration::from_millis(250);
/// The maximum number of nodes.
const MAX_NODES: usize = 1024;
