//! [`Cluster`]: IM nodes in this process, connected by real sockets, and [`Client`]s with a session on one of them.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rpc_core::{Addresses, BoxFuture, Discovery, Error, Instance, RegisterOutcome, Registry, ServiceId};
use rpc_im::{
    Login, LoginError, Node, NodeConfig, Outbound, Session, StoreChoice,
    envelope::{ClientFrame, Create, Position, Push, Recipient, Send, SendAck, ServerFrame, Sync},
};
use rpc_registry::{Administration, Backend, Memory};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    in_time,
    relay::{Mode, Relay, free_address},
};

/// IM nodes that discover each other in a registry of this process. All methods panic on failure.
///
/// Node 0 has the store and the directory.
pub struct Cluster {
    /// The nodes; `None` for a killed node.
    pub nodes: Vec<Option<Node>>,
    /// The address of node 0, once it has started.
    storing_node: Option<SocketAddr>,
    registry: Arc<dyn Backend>,
    stores: tempfile::TempDir,
    configure: Configure,
    /// The relays between the nodes, if the cluster was started with them.
    links: Option<Links>,
}

type Configure = Box<dyn Fn(NodeConfig) -> NodeConfig + std::marker::Send + std::marker::Sync>;

struct Links {
    /// The address of each node.
    addresses: Vec<SocketAddr>,
    /// (calling node, called node) → relay.
    relays: HashMap<(usize, usize), Relay>,
}

impl Cluster {
    /// Starts a cluster of `nodes` nodes, and waits until all see each other.
    pub async fn start(nodes: usize) -> Self {
        Self::start_with(nodes, |config| config).await
    }

    /// Starts a cluster whose node configurations `configure` changes.
    pub async fn start_with(
        nodes: usize,
        configure: impl Fn(NodeConfig) -> NodeConfig + std::marker::Send + std::marker::Sync + 'static,
    ) -> Self {
        Self::start_on(nodes, Box::new(configure), None).await
    }

    /// Starts a cluster whose links between nodes can be [`cut`](Self::cut).
    pub async fn start_cuttable(nodes: usize) -> Self {
        let addresses: Vec<_> = (0..nodes).map(|_| free_address()).collect();
        let mut relays = HashMap::new();
        for (one, other) in (0..nodes).flat_map(|one| (0..nodes).map(move |other| (one, other))) {
            relays.insert((one, other), Relay::to(addresses[other]).await);
        }
        Self::start_on(nodes, Box::new(|config| config), Some(Links { addresses, relays })).await
    }

    async fn start_on(nodes: usize, configure: Configure, links: Option<Links>) -> Self {
        static NAMES: AtomicU32 = AtomicU32::new(0);
        let name = format!("cluster-{}", NAMES.fetch_add(1, Ordering::Relaxed));
        let stores = tempfile::tempdir().expect("a directory can be made");
        let registry = Arc::new(Memory::named(&name));
        let mut cluster = Self { nodes: Vec::new(), storing_node: None, registry, stores, configure, links };
        for _ in 0..nodes {
            cluster.add().await;
        }
        cluster.until_all_see(nodes).await;
        cluster
    }

    /// Drops all bytes between two nodes; the other nodes still reach both.
    pub async fn cut(&self, one: usize, other: usize) {
        self.set_link(one, other, Mode::BlackHole).await;
    }

    /// Restores the link between two nodes.
    pub async fn mend(&self, one: usize, other: usize) {
        self.set_link(one, other, Mode::Pass).await;
    }

    /// Drops the calls of one node to another; calls in the other direction pass.
    pub async fn cut_calls(&self, from: usize, to: usize) {
        self.links.as_ref().expect("`start_cuttable` started the cluster").relays[&(from, to)]
            .set(Mode::BlackHole)
            .await;
    }

    async fn set_link(&self, one: usize, other: usize, mode: Mode) {
        let links = self.links.as_ref().expect("`start_cuttable` started the cluster");
        for link in [(one, other), (other, one)] {
            links.relays[&link].set(mode).await;
        }
    }

    /// Starts another node.
    pub async fn add(&mut self) {
        let number = self.nodes.len();
        let node = Node::start(self.config(number)).await.expect("the node starts");
        self.storing_node.get_or_insert(node.rpc_address());
        self.nodes.push(Some(node));
    }

    fn config(&self, number: usize) -> NodeConfig {
        let (registry, listen) = match &self.links {
            None => (Arc::clone(&self.registry), ([127, 0, 0, 1], 0).into()),
            Some(links) => {
                let others = (0..links.addresses.len()).filter(|other| *other != number);
                let relays = others.map(|other| (links.addresses[other], links.relays[&(number, other)].address()));
                let registry = RelayedRegistry {
                    registry: Arc::clone(&self.registry),
                    relays: relays.collect(),
                    tasks: Mutex::default(),
                };
                (Arc::new(registry) as Arc<dyn Backend>, links.addresses[number])
            }
        };
        let config = NodeConfig::new(registry, format!("ws://node-{number}/ws"))
            .with_listen(listen)
            .with_lease(LEASE)
            .with_presence_delay(Duration::from_millis(300))
            .with_store(self.store(number))
            .with_name(Some(number.to_string()));
        (self.configure)(config)
    }

    fn store(&self, number: usize) -> StoreChoice {
        match (number, &self.links) {
            (0, _) => StoreChoice::File(self.stores.path().join("messages")),
            (_, Some(links)) => StoreChoice::Node(links.relays[&(number, 0)].address()),
            (_, None) => StoreChoice::Node(self.storing_node.expect("node 0 starts first")),
        }
    }

    /// Returns a running node.
    pub fn node(&self, number: usize) -> &Node {
        self.nodes[number].as_ref().expect("the node runs")
    }

    /// Stops a node without draining it; the registry still lists it.
    pub fn kill(&mut self, number: usize) {
        self.nodes[number] = None;
    }

    /// Restarts a killed node with its address and its store.
    pub async fn restart(&mut self, number: usize, address: SocketAddr) {
        let config = self.config(number).with_listen(address);
        let started = in_time(async {
            loop {
                // The killed node may still have the store open.
                match Node::start(config.clone()).await {
                    Ok(node) => return node,
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        });
        self.nodes[number] = Some(started.await);
    }

    /// Waits until every running node sees `count` nodes and accepts logins.
    pub async fn until_all_see(&self, count: usize) {
        for node in self.nodes.iter().flatten() {
            until(|| node.nodes().len() == count && node.is_ready()).await;
        }
    }

    /// Logs the browser of a user in at a node.
    pub async fn client(&self, node: usize, user: &str) -> Client {
        self.client_on(node, user, "browser", "web").await.expect("the node accepts the login")
    }

    /// Logs a device of a user in at a node.
    ///
    /// # Errors
    ///
    /// Returns an error if the node rejects the login.
    pub async fn client_on(&self, node: usize, user: &str, device: &str, platform: &str) -> Result<Client, LoginError> {
        let (user, device, platform) = (user.to_owned(), device.to_owned(), platform.to_owned());
        let (session, outbound) = in_time(self.node(node).login(Login { user, device, platform })).await?;
        Ok(Client::new(session, outbound))
    }
}

/// A client with a session of a node, and the messages that it has received.
pub struct Client {
    /// The session, which handles the frames of the client.
    pub session: Session,
    /// The frames for the client.
    pub outbound: Outbound,
    /// The cursors of its next sync.
    pub cursors: BTreeMap<String, Position>,
    /// The received messages by conversation and sequence number.
    pub messages: BTreeMap<(String, u64), Push>,
}

impl Client {
    fn new(session: Session, outbound: Outbound) -> Self {
        Self { session, outbound, cursors: BTreeMap::new(), messages: BTreeMap::new() }
    }

    /// Sends a message to a user.
    pub fn send(&self, id: &str, to: &str, body: &str) {
        self.send_to(id, Recipient::User(to.to_owned()), body);
    }

    /// Sends a message.
    pub fn send_to(&self, id: &str, to: Recipient, body: &str) {
        self.session.handle(ClientFrame::Send(Send { id: id.to_owned(), to: Some(to), body: body.to_owned() }));
    }

    /// Creates a conversation with other users.
    pub fn create(&self, id: &str, members: &[&str]) {
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        self.session.handle(ClientFrame::Create(Create {
            id: id.to_owned(),
            name: "group".to_owned(),
            members,
            open: false,
        }));
    }

    /// Requests the messages after its cursors.
    pub fn sync(&self) {
        self.session.handle(ClientFrame::Sync(Sync { cursors: self.cursors.clone(), ..Sync::default() }));
    }

    /// Returns the next frame, or `None` if the session has ended.
    pub async fn next(&mut self) -> Option<Arc<ServerFrame>> {
        let frame = in_time(self.outbound.next()).await?;
        if let ServerFrame::Push(push) = &*frame {
            let known = self.messages.insert((push.conversation.clone(), push.seq), push.clone());
            assert!(known.is_none_or(|known| known == *push), "a sequence number has one message");
        }
        Some(frame)
    }

    /// Skips frames until `select` returns a value.
    pub async fn until<T>(&mut self, mut select: impl FnMut(&ServerFrame) -> Option<T>) -> T {
        loop {
            let frame = self.next().await.expect("the session is open");
            if let Some(found) = select(&frame) {
                return found;
            }
        }
    }

    /// Waits for the acknowledgement of a message; panics if the node rejects it.
    pub async fn acked(&mut self, id: &str) -> SendAck {
        self.until(|frame| match frame {
            ServerFrame::SendAck(ack) if ack.id == id => Some(ack.clone()),
            ServerFrame::Error(error) if error.id.as_deref() == Some(id) => panic!("{error:?}"),
            _ => None,
        })
        .await
    }

    /// Sends a message, and retries after each rejection until it is acknowledged.
    pub async fn send_until_acked(&mut self, id: &str, to: &str, body: &str) -> SendAck {
        loop {
            self.send(id, to, body);
            let acked = self.until(|frame| match frame {
                ServerFrame::SendAck(ack) if ack.id == id => Some(Some(ack.clone())),
                ServerFrame::Error(error) if error.id.as_deref() == Some(id) => Some(None),
                _ => None,
            });
            if let Some(ack) = acked.await {
                return ack;
            }
        }
    }

    /// Returns the next message; skips other frames.
    pub async fn pushed(&mut self) -> Push {
        self.until(|frame| match frame {
            ServerFrame::Push(push) => Some(push.clone()),
            _ => None,
        })
        .await
    }

    /// Returns the next message with this body.
    pub async fn pushed_body(&mut self, body: &str) -> Push {
        self.until(|frame| match frame {
            ServerFrame::Push(push) if push.body == body => Some(push.clone()),
            _ => None,
        })
        .await
    }

    /// Syncs until the client has all messages of the conversation up to this sequence number.
    pub async fn sync_until(&mut self, conversation: &str, seq: u64) {
        let start = Instant::now();
        loop {
            while let Ok(Some(())) = timeout(Duration::from_millis(1), self.receive_one()).await {}
            let have = (1..=seq).take_while(|seq| self.messages.contains_key(&(conversation.to_owned(), *seq))).count();
            if have as u64 == seq {
                return;
            }
            assert!(start.elapsed() < TIMEOUT, "received {have} of {seq} messages");
            let incarnation = self.messages.values().find(|push| push.conversation == conversation);
            if let Some(Push { incarnation, .. }) = incarnation {
                let cursor = Position { incarnation: *incarnation, seq: have as u64 };
                self.cursors.insert(conversation.to_owned(), cursor);
            }
            self.sync();
            // No frame marks the end of a sync: assume it after 500 ms without a frame.
            while let Ok(Some(())) = timeout(Duration::from_millis(500), self.receive_one()).await {}
        }
    }

    async fn receive_one(&mut self) -> Option<()> {
        self.next().await.map(|_| ())
    }

    /// Returns the bodies of the received messages of a conversation, in sequence.
    pub fn bodies(&self, conversation: &str) -> Vec<String> {
        let messages = self.messages.iter().filter(|((of, _), _)| of == conversation);
        messages.map(|(_, push)| push.body.clone()).collect()
    }
}

/// Waits until the condition holds; polls it every 10 ms.
pub async fn until(mut condition: impl FnMut() -> bool) {
    in_time(async {
        while !condition() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// A registry that lists each node with the address of the relay to it.
struct RelayedRegistry {
    registry: Arc<dyn Backend>,
    /// Address of a node → address of the relay to it.
    relays: HashMap<SocketAddr, SocketAddr>,
    tasks: Mutex<JoinSet<()>>,
}

impl Administration for RelayedRegistry {}

impl Discovery for RelayedRegistry {
    fn watch(&self, service: &ServiceId) -> Addresses {
        let mut listed = self.registry.watch(service);
        let relays = self.relays.clone();
        let (sender, relayed) = watch::channel(None);
        self.tasks.lock().expect("no task panics while it holds the lock").spawn(async move {
            loop {
                let list = listed.borrow_and_update().clone();
                let relay = |instance: &Instance| {
                    let relay = Instance::new(*relays.get(&instance.address()).unwrap_or(&instance.address()));
                    let metadata = instance.metadata().iter();
                    metadata.fold(relay, |relay, (key, value)| relay.with_metadata(key, value))
                };
                sender.send_replace(list.map(|list| list.iter().map(relay).collect()));
                if listed.changed().await.is_err() {
                    return;
                }
            }
        });
        relayed
    }

    fn url(&self) -> &str {
        self.registry.url()
    }
}

impl Registry for RelayedRegistry {
    fn register<'a>(
        &'a self,
        service: &'a ServiceId,
        instance: Instance,
    ) -> BoxFuture<'a, Result<RegisterOutcome, Error>> {
        self.registry.register(service, instance)
    }

    fn deregister<'a>(&'a self, service: &'a ServiceId, address: SocketAddr) -> BoxFuture<'a, Result<(), Error>> {
        self.registry.deregister(service, address)
    }
}

/// The lease of the nodes: they are considered alive for this time after their last heartbeat.
pub const LEASE: Duration = Duration::from_millis(1500);
const TIMEOUT: Duration = Duration::from_secs(60);
