//! [`NodeRouter`]: knows the nodes that live, and the way to each.

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
use rpc_core::{Addresses, Discovery, ServiceId};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::{error, info, warn};

use crate::{
    cluster::local_node::Me,
    cluster::peer_link::{PeerLink, Returned},
    cluster::resync_counters::Sightings,
    cluster::view::{NodeInfo, View},
    identity::{NodeId, NodeKey},
    session::resync::Doubt,
};

/// Knows the nodes that live, and the way to each: it watches the registry, keeps a [`PeerLink`] to each node that is listed, never to
/// itself, and makes a [`View`] of those that answer.
pub(crate) struct NodeRouter {
    me: Arc<Me>,
    client: Client,
    links: Mutex<HashMap<SocketAddr, Link>>,
    view: watch::Sender<Arc<View>>,
    upheavals: AtomicU64,
    standing: Mutex<Standing>,
    /// Nodes that have said hello and are not in the view, and when.
    strangers: Mutex<HashMap<NodeId, Instant>>,
    greeted: Arc<Notify>,
    returns: mpsc::Sender<Returned>,
    sightings: Arc<Mutex<Sightings>>,
    /// Raised when other nodes have lost sight of this one.
    doubt: Arc<Doubt>,
    times: (Duration, Duration),
}

struct Link {
    peer: Arc<PeerLink>,
    _tasks: JoinSet<()>,
}

/// Whether this node may speak for the cluster.
#[derive(Debug, Clone, Copy)]
struct Standing {
    /// When the view was last made.
    looked: Instant,
    /// Since when nothing kept this process from keeping its leases.
    awake: Instant,
    /// Whether the registry has ever listed this node: until then its list may be one of before others came.
    listed: bool,
    /// Whether all nodes were tried since, and more than half of them are in the view.
    sound: bool,
    /// How many nodes there were in this node's last life, and until when they are waited for.
    expected: (usize, Instant),
}

impl NodeRouter {
    /// The service that nodes are listed under.
    pub(crate) const SERVICE: ServiceId = ServiceId::from_static("im.NodeForward", "1.0");

    pub(crate) fn new(
        me: Arc<Me>,
        client: Client,
        returns: mpsc::Sender<Returned>,
        doubt: Arc<Doubt>,
        times: (Duration, Duration),
    ) -> Self {
        let now = Instant::now();
        Self {
            view: watch::Sender::new(Arc::new(View::new(vec![me.info()]))),
            upheavals: AtomicU64::new(0),
            standing: Mutex::new(Standing { looked: now, awake: now, listed: false, sound: false, expected: (0, now) }),
            me,
            client,
            links: Mutex::default(),
            strangers: Mutex::default(),
            greeted: Arc::default(),
            returns,
            sightings: Arc::default(),
            doubt,
            times,
        }
    }

    /// In its last life this node was one of so many. For a while it does not go on with half of them or fewer: a registry that has
    /// just been restarted lists whoever comes first, and he would take himself for all there are.
    pub(crate) fn expect(&self, nodes: usize) {
        self.standing().expected = (nodes, Instant::now() + EXPECTED);
    }

    /// The nodes that live, this one too.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// The view of a node that may speak for the cluster: it was not held up for as long as a lease, it has tried all nodes since,
    /// and sees more than half of those that are listed, live, have said hello, or are [expected](Self::expect). So of two parts of a
    /// cluster that do not see each other, one at most goes on.
    pub(crate) fn sound_view(&self) -> Option<Arc<View>> {
        let standing = *self.standing();
        let (_, lease) = self.times;
        (standing.sound && standing.looked.elapsed() < lease / 2).then(|| self.view())
    }

    /// Grows whenever other nodes may have gone on without this one, or see others than before. What was agreed on with them before is
    /// to be agreed on anew, also when this node sees the same nodes as before: it may have stood still while they did not.
    pub(crate) fn upheavals(&self) -> u64 {
        self.upheavals.load(Ordering::Acquire) + self.doubt.count()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// The way to a node that lives.
    pub(crate) fn peer(&self, key: NodeKey) -> Option<Arc<PeerLink>> {
        let address = self.view.borrow().node(key)?.address;
        self.peer_at(address)
    }

    pub(crate) fn peer_at(&self, address: SocketAddr) -> Option<Arc<PeerLink>> {
        self.links().get(&address).map(|link| Arc::clone(&link.peer))
    }

    /// Something for the clients of a node did not get there: they are told, by the node, that they may have missed something.
    pub(crate) fn doubt(&self, node: NodeKey) {
        self.sightings().handle_doubt(node);
    }

    /// Whether this one has not met a node yet, in this life of it; others may have.
    pub(crate) fn is_to_come(&self, node: NodeKey) -> bool {
        self.sightings().is_to_come(node)
    }

    /// How often clients of a node may have missed what this one had for them.
    pub(crate) fn doubts(&self, node: NodeKey) -> u64 {
        self.sightings().doubts(node)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Tells all nodes at once what this one says of itself.
    pub(crate) fn say_hello(&self) {
        for link in self.links().values() {
            link.peer.say_hello();
        }
    }

    /// A node has said hello. One that is not in the view may be in a list that this node has not got yet: it is no majority
    /// without it.
    pub(crate) fn handle_hello(&self, from: &NodeInfo) {
        if from.key.id != self.me.key().id && self.view.borrow().node(from.key).is_none() {
            self.strangers().insert(from.key.id, Instant::now());
            self.greeted.notify_one();
        }
    }

    /// Follows the registry and the nodes for as long as it is polled.
    pub(crate) async fn run(&self, discovery: Arc<dyn Discovery>) {
        let mut listed = discovery.watch(&Self::SERVICE);
        loop {
            let list = addresses(&mut listed);
            if let Some(list) = &list {
                self.follow(list);
            }
            self.look(list.as_deref());
            let changed = async {
                tokio::select! {
                    // Each of these may be dropped: what they tell is looked at in the next round.
                    changed = listed.changed() => if changed.is_err() {
                        // The backend is gone; its last list stays.
                        self.greeted.notified().await;
                    },
                    () = self.greeted.notified() => {}
                }
            };
            let _ = timeout(LOOK, changed).await;
        }
    }

    /// Links to the nodes that are listed, and to those that are listed no more while they answer.
    fn follow(&self, list: &[SocketAddr]) {
        let now = Instant::now();
        let mut links = self.links();
        if list.len() > MAX_NODES {
            warn!(listed = list.len(), "the registry lists more nodes than there may be; the first of them count");
        }
        for address in list.iter().take(MAX_NODES).filter(|address| **address != self.me.address()) {
            links.entry(*address).or_insert_with(|| self.link(*address));
        }
        links.retain(|address, link| {
            let is_listed = list.contains(address);
            link.peer.set_listed(is_listed);
            is_listed || link.peer.living(now).is_some()
        });
    }

    fn link(&self, address: SocketAddr) -> Link {
        let returns = self.returns.clone();
        let greeted = Arc::clone(&self.greeted);
        let doubts = (Arc::clone(&self.doubt), Arc::clone(&self.sightings));
        let peer = Arc::new(PeerLink::new(address, self.client.clone(), returns, greeted, doubts, self.times));
        let mut tasks = JoinSet::new();
        let (greeter, forwarder, me) = (Arc::clone(&peer), Arc::clone(&peer), Arc::clone(&self.me));
        tasks.spawn(async move { greeter.greet(&me).await });
        tasks.spawn(async move { forwarder.forward().await });
        Link { peer, _tasks: tasks }
    }

    /// Makes the view anew.
    fn look(&self, list: Option<&[SocketAddr]>) {
        let (now, (_, lease)) = (Instant::now(), self.times);
        let mut standing = *self.standing();
        if now - standing.looked >= lease {
            warn!(held_up = ?(now - standing.looked), "this process was held up for longer than its lease");
            standing.awake = now;
            self.upheavals.fetch_add(1, Ordering::AcqRel);
        }
        standing.looked = now;
        let (mut nodes, mut total, mut tried) = (vec![self.me.info()], 1, list.is_some());
        for (address, link) in &*self.links() {
            tried &= link.peer.was_tried(standing.awake);
            let living = link.peer.living(now);
            let is_listed = list.is_some_and(|list| list.contains(address));
            total += usize::from(is_listed || living.is_some());
            match living {
                Some(info) if info.key.id == self.me.key().id => self.clash(*address, &mut tried),
                // Where it is reached from here is where it is listed, whatever it says of itself.
                Some(info) => nodes.push(NodeInfo { address: *address, ..info }),
                None => {}
            }
        }
        let mut strangers = self.strangers();
        strangers.retain(|id, seen| now - *seen < lease && nodes.iter().all(|node| node.key.id != *id));
        // They may be among those that are listed and do not answer.
        total = total.max(nodes.len() + strangers.len());
        drop(strangers);
        let (expected, until) = standing.expected;
        if now < until {
            total = total.max(expected);
        }
        standing.listed |= list.is_some_and(|list| list.contains(&self.me.address()));
        standing.sound = tried && standing.listed && 2 * nodes.len() > total;
        if standing.sound {
            standing.expected = (0, now);
        }
        // Before the view, so that nobody acts on a view which this node is in no position to have.
        *self.standing() = standing;
        // A view that was made before all nodes were tried would say of those who live that they are gone.
        if tried || list.is_none() {
            self.publish(View::new(nodes));
        }
    }

    fn publish(&self, view: View) {
        self.view.send_if_modified(|last| {
            let is_new = **last != view;
            if last.fingerprint != view.fingerprint {
                let keys: Vec<_> = view.nodes.iter().map(|node| node.key.to_string()).collect();
                info!(me = %self.me.key(), nodes = %keys.join(" "), "the nodes that live have changed");
                self.upheavals.fetch_add(1, Ordering::AcqRel);
                // Before anybody sees the view: who is in it is not doubted for what is sent there from now on.
                self.sightings().handle_view(last, &view);
            }
            *last = Arc::new(view);
            is_new
        });
    }

    /// Another node has this one's number.
    fn clash(&self, address: SocketAddr, tried: &mut bool) {
        error!(id = %self.me.key().id, %address, "another node has this node's number; give each its own");
        *tried = false;
    }

    fn links(&self) -> MutexGuard<'_, HashMap<SocketAddr, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strangers(&self) -> MutexGuard<'_, HashMap<NodeId, Instant>> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sightings(&self) -> MutexGuard<'_, Sightings> {
        self.sightings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn addresses(listed: &mut Addresses) -> Option<Vec<SocketAddr>> {
    let list = listed.borrow_and_update();
    list.as_ref().map(|list| list.iter().map(|instance| instance.address()).collect())
}

/// The view is made anew at least this often, because leases end without anybody saying so.
const LOOK: Duration = Duration::from_millis(250);
/// How long a node that was started again waits for those it knew: more than a registry's client takes to list them anew.
const EXPECTED: Duration = Duration::from_secs(60);
/// As many as there are numbers for nodes.
const MAX_NODES: usize = NodeId::MAX as usize + 1;
