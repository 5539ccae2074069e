//! [`NodeRouter`]: the nodes that are alive, and the link to each of them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rpc_client::Client;
use rpc_core::{Addresses, Discovery, ServiceId, contained};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::{error, info, warn};

use super::{
    local_node::LocalNode,
    message::Undelivered,
    peer_link::PeerLink,
    resync_counters::ResyncCounters,
    view::{NodeInfo, View},
};
use crate::{
    identity::{NodeId, NodeKey},
    session::resync::ResyncNotifier,
};

/// The nodes that are alive, and the link to each of them.
///
/// The router watches the registry, keeps a [`PeerLink`] to each listed node except the local one, and publishes a
/// [`View`] of the nodes that answer hellos.
pub(crate) struct NodeRouter {
    local: Arc<LocalNode>,
    client: Client,
    links: Mutex<HashMap<SocketAddr, Link>>,
    view: watch::Sender<Arc<View>>,
    topology_version: AtomicU64,
    membership: Mutex<Membership>,
    /// Nodes that have sent a hello and are not in the view, with the time of the hello.
    unlinked: Mutex<HashMap<NodeId, Instant>>,
    /// Notified by each hello that may change the view.
    hello_done: Arc<Notify>,
    undelivered: mpsc::Sender<Undelivered>,
    resync_counters: Arc<Mutex<ResyncCounters>>,
    /// Requested when clients of this node may have missed messages from other nodes.
    resync: Arc<ResyncNotifier>,
    /// The interval of hellos, and the lease.
    times: (Duration, Duration),
}

struct Link {
    peer: Arc<PeerLink>,
    _tasks: JoinSet<()>,
}

/// The facts that decide whether this node belongs to the majority.
#[derive(Debug, Clone, Copy)]
struct Membership {
    /// The time of the last update of the view.
    updated: Instant,
    /// The end of the last period in which this process was suspended for longer than its lease.
    running_since: Instant,
    /// Whether the registry has ever listed this node. An older list may lack other nodes as well.
    was_listed: bool,
    /// Whether all nodes were tried since `running_since`, and more than half are in the view.
    has_majority: bool,
    /// The number of nodes before this node's restart, and until when the router waits for them.
    expected: (usize, Instant),
}

impl NodeRouter {
    /// The service under which nodes are registered.
    pub(crate) const SERVICE: ServiceId = ServiceId::from_static("im.NodeForward", "1.0");

    pub(crate) fn new(
        local: Arc<LocalNode>,
        client: Client,
        undelivered: mpsc::Sender<Undelivered>,
        resync: Arc<ResyncNotifier>,
        times: (Duration, Duration),
    ) -> Self {
        let now = Instant::now();
        let membership =
            Membership { updated: now, running_since: now, was_listed: false, has_majority: false, expected: (0, now) };
        Self {
            view: watch::Sender::new(Arc::new(View::new(vec![local.info()]))),
            topology_version: AtomicU64::new(0),
            membership: Mutex::new(membership),
            local,
            client,
            links: Mutex::default(),
            unlinked: Mutex::default(),
            hello_done: Arc::default(),
            undelivered,
            resync_counters: Arc::default(),
            resync,
            times,
        }
    }

    /// Counts at least this many nodes for the majority, for up to [`EXPECTED_TIME`].
    ///
    /// A registry that was just restarted lists nodes as they register again. A restarted node that reads such a list
    /// would count itself as a majority, so it waits for more than half of the nodes of its last view.
    pub(crate) fn expect_nodes(&self, nodes: usize) {
        self.membership().expected = (nodes, Instant::now() + EXPECTED_TIME);
    }

    /// Returns the nodes that are alive, the local one included.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Returns the view if this node belongs to the majority.
    ///
    /// The process was not suspended for as long as a lease, a hello to every node completed since, and the view has
    /// more than half of the nodes that are listed, alive, have sent a hello, or are [expected](Self::expect_nodes). So
    /// at most one of two parts of a partitioned cluster continues.
    pub(crate) fn majority_view(&self) -> Option<Arc<View>> {
        let membership = *self.membership();
        let (_, lease) = self.times;
        (membership.has_majority && membership.updated.elapsed() < lease / 2).then(|| self.view())
    }

    /// Returns a version that grows with each change of the view and each possible absence of this node.
    ///
    /// A confirmation by other nodes, such as of a leadership, is valid for one version. The version also grows when
    /// the view stays the same, because this process may have been suspended while the other nodes elected another
    /// leader.
    pub(crate) fn topology_version(&self) -> u64 {
        self.topology_version.load(Ordering::Acquire) + self.resync.count()
    }

    /// Returns a receiver of all views.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// Returns the link to a node in the view.
    pub(crate) fn peer(&self, key: NodeKey) -> Option<Arc<PeerLink>> {
        let address = self.view.borrow().node(key)?.address;
        self.links().get(&address).map(|link| Arc::clone(&link.peer))
    }

    /// Counts a failed delivery to clients of a node, which the node resyncs.
    pub(crate) fn record_missed(&self, node: NodeKey) {
        self.resync_counters().handle_missed(node);
    }

    /// Returns whether this node has never seen this epoch of a node; other nodes may have.
    pub(crate) fn is_unknown(&self, node: NodeKey) -> bool {
        self.resync_counters().is_unknown(node)
    }

    /// Returns the number of times that clients of a node may have missed messages from this one.
    pub(crate) fn missed_count(&self, node: NodeKey) -> u64 {
        self.resync_counters().missed_count(node)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a hello to all nodes now.
    pub(crate) fn send_hello(&self) {
        for link in self.links().values() {
            link.peer.send_hello();
        }
    }

    /// Handles a hello.
    ///
    /// A node outside the view may be in a list that has not arrived here yet, so it counts for the majority.
    pub(crate) fn handle_hello(&self, from: &NodeInfo) {
        if from.key.id != self.local.key().id && self.view.borrow().node(from.key).is_none() {
            self.unlinked().insert(from.key.id, Instant::now());
            self.hello_done.notify_one();
        }
    }

    /// Follows the registry and the hellos until dropped.
    pub(crate) async fn run(&self, discovery: Arc<dyn Discovery>) {
        let mut listed = discovery.watch(&Self::SERVICE);
        loop {
            let list = addresses(&mut listed);
            if let Some(list) = &list {
                self.update_links(list);
            }
            self.update_view(list.as_deref());
            let changed = async {
                tokio::select! {
                    // Both branches are cancel safe: the next iteration reads the current state.
                    changed = listed.changed() => if changed.is_err() {
                        // The backend has ended; its last list stays valid.
                        self.hello_done.notified().await;
                    },
                    () = self.hello_done.notified() => {}
                }
            };
            let _ = timeout(UPDATE_INTERVAL, changed).await;
        }
    }

    /// Keeps links to the listed nodes, and to delisted ones while they answer.
    fn update_links(&self, list: &[SocketAddr]) {
        let now = Instant::now();
        let mut links = self.links();
        if list.len() > MAX_NODES {
            contained(|| {
                warn!(
                    listed = list.len(),
                    limit = MAX_NODES,
                    "the registry lists too many nodes; ignoring the last ones"
                )
            });
        }
        for address in list.iter().take(MAX_NODES).filter(|address| **address != self.local.address()) {
            links.entry(*address).or_insert_with(|| self.link(*address));
        }
        links.retain(|address, link| {
            let is_listed = list.contains(address);
            link.peer.set_listed(is_listed);
            is_listed || link.peer.alive(now).is_some()
        });
    }

    fn link(&self, address: SocketAddr) -> Link {
        let peer = Arc::new(PeerLink::new(
            address,
            self.client.clone(),
            self.undelivered.clone(),
            Arc::clone(&self.hello_done),
            (Arc::clone(&self.resync), Arc::clone(&self.resync_counters)),
            self.times,
        ));
        let mut tasks = JoinSet::new();
        let (hellos, queue, local) = (Arc::clone(&peer), Arc::clone(&peer), Arc::clone(&self.local));
        tasks.spawn(async move { hellos.run_hellos(&local).await });
        tasks.spawn(async move { queue.run_queue().await });
        Link { peer, _tasks: tasks }
    }

    fn update_view(&self, list: Option<&[SocketAddr]>) {
        let (now, (_, lease)) = (Instant::now(), self.times);
        let mut membership = *self.membership();
        let suspended = now - membership.updated;
        if suspended >= lease {
            contained(|| {
                warn!(?suspended, ?lease, "this process was suspended for longer than its lease (NodeConfig::lease)")
            });
            membership.running_since = now;
            self.topology_version.fetch_add(1, Ordering::AcqRel);
        }
        membership.updated = now;
        let (mut nodes, mut total, mut all_tried) = (vec![self.local.info()], 1, list.is_some());
        for (address, link) in &*self.links() {
            all_tried &= link.peer.tried_since(membership.running_since);
            let alive = link.peer.alive(now);
            let is_listed = list.is_some_and(|list| list.contains(address));
            total += usize::from(is_listed || alive.is_some());
            match alive {
                Some(info) if info.key.id == self.local.key().id => {
                    contained(
                        || error!(id = %info.key.id, %address, "another node has this node's id (NodeConfig::id); ids must be unique"),
                    );
                    all_tried = false;
                }
                // The listed address is the one that is reachable from here, not the one that the node announces.
                Some(info) => nodes.push(NodeInfo { address: *address, ..info }),
                None => {}
            }
        }
        total = total.max(nodes.len() + self.count_unlinked(&nodes, now));
        let (expected, until) = membership.expected;
        if now < until {
            total = total.max(expected);
        }
        membership.was_listed |= list.is_some_and(|list| list.contains(&self.local.address()));
        membership.has_majority = all_tried && membership.was_listed && 2 * nodes.len() > total;
        if membership.has_majority {
            membership.expected = (0, now);
        }
        // Set before the view is published, so that no task acts on a minority's view.
        *self.membership() = membership;
        // Before all nodes were tried, the view would lack nodes that are alive.
        if all_tried || list.is_none() {
            self.publish(View::new(nodes));
        }
    }

    /// Counts the nodes outside the view that sent a hello within a lease.
    ///
    /// They may be listed nodes that do not answer.
    fn count_unlinked(&self, nodes: &[NodeInfo], now: Instant) -> usize {
        let (_, lease) = self.times;
        let mut unlinked = self.unlinked();
        unlinked.retain(|id, seen| now - *seen < lease && nodes.iter().all(|node| node.key.id != *id));
        unlinked.len()
    }

    fn publish(&self, view: View) {
        self.view.send_if_modified(|last| {
            let is_new = **last != view;
            if last.fingerprint != view.fingerprint {
                let keys: Vec<_> = view.nodes.iter().map(|node| node.key.to_string()).collect();
                contained(
                    || info!(node = %self.local.key(), nodes = %keys.join(" "), "the view of the cluster changed"),
                );
                self.topology_version.fetch_add(1, Ordering::AcqRel);
                // Counted before the view is published, so that deliveries to nodes of the new view do not count as
                // missed.
                self.resync_counters().handle_view(last, &view);
            }
            *last = Arc::new(view);
            is_new
        });
    }

    fn links(&self) -> MutexGuard<'_, HashMap<SocketAddr, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unlinked(&self) -> MutexGuard<'_, HashMap<NodeId, Instant>> {
        self.unlinked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn membership(&self) -> MutexGuard<'_, Membership> {
        self.membership.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resync_counters(&self) -> MutexGuard<'_, ResyncCounters> {
        self.resync_counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn addresses(listed: &mut Addresses) -> Option<Vec<SocketAddr>> {
    let list = listed.borrow_and_update();
    list.as_ref().map(|list| list.iter().map(|instance| instance.address()).collect())
}

/// The maximum time between two updates of the view: no event announces the end of a lease.
const UPDATE_INTERVAL: Duration = Duration::from_millis(250);
/// The time that a restarted node waits for the nodes of its last view.
///
/// It is longer than the time in which a registry's client registers again.
const EXPECTED_TIME: Duration = Duration::from_secs(60);
/// The maximum number of nodes, equal to the number of node ids.
const MAX_NODES: usize = NodeId::MAX as usize + 1;
