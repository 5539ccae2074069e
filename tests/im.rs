//! A cluster in this process, over real sockets, and clients of it.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rpc_core::{Addresses, BoxFuture, Discovery, Error, Instance, RegisterOutcome, Registry, ServiceId};
use rpc_im::{
    Login, LoginError, Node, NodeConfig, NodeId, Outbound, Session,
    envelope::{ClientFrame, Create, Push, Recipient, Send, SendAck, ServerFrame, Sync},
};
use rpc_registry::{Backend, Memory};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    in_time,
    relay::{Mode, Relay, free_address},
};

/// Nodes that find each other in a registry of this process. Everything of it panics when it fails.
pub struct Cluster {
    /// Those that live.
    pub nodes: Vec<Option<Node>>,
    registry: Arc<dyn Backend>,
    stores: tempfile::TempDir,
    configure: Configure,
    /// Where nodes listen, and the ways between them, if there are ways that can be cut.
    ways: Option<Ways>,
}

type Configure = Box<dyn Fn(NodeConfig) -> NodeConfig + std::marker::Send + std::marker::Sync>;

struct Ways {
    addresses: Vec<SocketAddr>,
    /// By who calls and who is called.
    relays: HashMap<(usize, usize), Relay>,
}

impl Cluster {
    /// A cluster of so many nodes that know each other.
    pub async fn start(nodes: usize) -> Self {
        Self::start_with(nodes, |config| config).await
    }

    /// The same with other numbers.
    pub async fn start_with(
        nodes: usize,
        configure: impl Fn(NodeConfig) -> NodeConfig + std::marker::Send + std::marker::Sync + 'static,
    ) -> Self {
        Self::start_on(nodes, Box::new(configure), None).await
    }

    /// The same with ways between the nodes that can be [`cut`](Self::cut).
    pub async fn start_cuttable(nodes: usize) -> Self {
        let addresses: Vec<_> = (0..nodes).map(|_| free_address()).collect();
        let mut relays = HashMap::new();
        for (one, other) in (0..nodes).flat_map(|one| (0..nodes).map(move |other| (one, other))) {
            relays.insert((one, other), Relay::to(addresses[other]).await);
        }
        Self::start_on(nodes, Box::new(|config| config), Some(Ways { addresses, relays })).await
    }

    async fn start_on(nodes: usize, configure: Configure, ways: Option<Ways>) -> Self {
        static NAMES: AtomicU32 = AtomicU32::new(0);
        let name = format!("cluster-{}", NAMES.fetch_add(1, Ordering::Relaxed));
        let stores = tempfile::tempdir().expect("a directory can be made");
        let registry = Arc::new(Memory::named(&name));
        let mut cluster = Self { nodes: Vec::new(), registry, stores, configure, ways };
        for _ in 0..nodes {
            cluster.add().await;
        }
        cluster.until_all_see(nodes).await;
        cluster
    }

    /// Lets two nodes not reach each other any more; all others go on to reach both.
    pub async fn cut(&self, one: usize, other: usize) {
        self.set_way(one, other, Mode::BlackHole).await;
    }

    /// Lets them reach each other again.
    pub async fn mend(&self, one: usize, other: usize) {
        self.set_way(one, other, Mode::Pass).await;
    }

    async fn set_way(&self, one: usize, other: usize, mode: Mode) {
        let ways = self.ways.as_ref().expect("the cluster was started with ways that can be cut");
        for way in [(one, other), (other, one)] {
            ways.relays[&way].set(mode).await;
        }
    }

    /// Starts one more node.
    pub async fn add(&mut self) {
        let number = self.nodes.len();
        let node = Node::start(self.config(number)).await.expect("the node starts");
        self.nodes.push(Some(node));
    }

    fn config(&self, number: usize) -> NodeConfig {
        let (registry, listen) = match &self.ways {
            None => (Arc::clone(&self.registry), ([127, 0, 0, 1], 0).into()),
            Some(ways) => {
                let others = (0..ways.addresses.len()).filter(|other| *other != number);
                let detours = others.map(|other| (ways.addresses[other], ways.relays[&(number, other)].address()));
                let registry = Detours {
                    registry: Arc::clone(&self.registry),
                    detours: detours.collect(),
                    tasks: Mutex::default(),
                };
                (Arc::new(registry) as Arc<dyn Backend>, ways.addresses[number])
            }
        };
        let config = NodeConfig::new(registry, format!("ws://node-{number}/ws"))
            .with_listen(listen)
            .with_lease(LEASE)
            .with_presence_delay(Duration::from_millis(300))
            .with_store(Some(self.store(number)))
            .with_id(NodeId::new(number as u16 + 1));
        (self.configure)(config)
    }

    fn store(&self, number: usize) -> PathBuf {
        self.stores.path().join(format!("node-{number}"))
    }

    /// A node that lives.
    pub fn node(&self, number: usize) -> &Node {
        self.nodes[number].as_ref().expect("the node lives")
    }

    /// Ends a node without a word; the registry lists it further on.
    pub fn kill(&mut self, number: usize) {
        self.nodes[number] = None;
    }

    /// Starts a node again that was killed, on its address, with its store.
    pub async fn restart(&mut self, number: usize, address: SocketAddr) {
        let config = self.config(number).with_listen(address);
        let started = in_time(async {
            loop {
                // Its last life may still hold on to its store.
                match Node::start(config.clone()).await {
                    Ok(node) => return node,
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        });
        self.nodes[number] = Some(started.await);
    }

    /// Waits until every node that lives sees so many, and takes logins.
    pub async fn until_all_see(&self, count: usize) {
        for node in self.nodes.iter().flatten() {
            until(|| node.nodes().len() == count && node.is_ready()).await;
        }
    }

    /// A user's browser on a node.
    pub async fn client(&self, node: usize, user: &str) -> Client {
        self.client_on(node, user, "browser", "web").await.expect("the node lets the user in")
    }

    /// A device of a user on a node.
    ///
    /// # Errors
    ///
    /// When it is not let in.
    pub async fn client_on(&self, node: usize, user: &str, device: &str, platform: &str) -> Result<Client, LoginError> {
        let (user, device, platform) = (user.to_owned(), device.to_owned(), platform.to_owned());
        let (session, outbound) = in_time(self.node(node).login(Login { user, device, platform })).await?;
        Ok(Client::new(session, outbound))
    }
}

/// A client: what it was told, and what it has of each conversation.
pub struct Client {
    /// What it says goes in here.
    pub session: Session,
    /// What it is told comes out here.
    pub outbound: Outbound,
    /// What it says that it has of each conversation.
    pub cursors: BTreeMap<String, u64>,
    /// What it has, by conversation and sequence number.
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

    /// Begins a conversation with others.
    pub fn create(&self, id: &str, members: &[&str]) {
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        self.session.handle(ClientFrame::Create(Create { id: id.to_owned(), name: "group".to_owned(), members }));
    }

    /// Asks for what it missed.
    pub fn sync(&self) {
        self.session.handle(ClientFrame::Sync(Sync { cursors: self.cursors.clone() }));
    }

    /// The next frame; a session that has ended gives none.
    pub async fn next(&mut self) -> Option<Arc<ServerFrame>> {
        let frame = in_time(self.outbound.next()).await?;
        if let ServerFrame::Push(push) = &*frame {
            let known = self.messages.insert((push.conversation.clone(), push.seq), push.clone());
            assert!(known.is_none_or(|known| known == *push), "a place in a conversation has one message");
        }
        Some(frame)
    }

    /// The next frame that is one of those meant; what comes before is passed over.
    pub async fn until<T>(&mut self, mut meant: impl FnMut(&ServerFrame) -> Option<T>) -> T {
        loop {
            let frame = self.next().await.expect("the session goes on");
            if let Some(found) = meant(&frame) {
                return found;
            }
        }
    }

    /// Waits for the answer to a message; an error is a failure.
    pub async fn acked(&mut self, id: &str) -> SendAck {
        self.until(|frame| match frame {
            ServerFrame::SendAck(ack) if ack.id == id => Some(ack.clone()),
            ServerFrame::Error(error) if error.id.as_deref() == Some(id) => panic!("{error:?}"),
            _ => None,
        })
        .await
    }

    /// Sends until it is acknowledged, as a client does that is told to try again.
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

    /// The next message; what comes before is passed over.
    pub async fn pushed(&mut self) -> Push {
        self.until(|frame| match frame {
            ServerFrame::Push(push) => Some(push.clone()),
            _ => None,
        })
        .await
    }

    /// The next message that says this.
    pub async fn pushed_body(&mut self, body: &str) -> Push {
        self.until(|frame| match frame {
            ServerFrame::Push(push) if push.body == body => Some(push.clone()),
            _ => None,
        })
        .await
    }

    /// Asks for what it missed until it has all messages of the conversation up to that one.
    pub async fn sync_until(&mut self, conversation: &str, seq: u64) {
        let begun = Instant::now();
        loop {
            while let Ok(Some(())) = timeout(Duration::from_millis(1), self.took_one()).await {}
            let have = (1..=seq).take_while(|seq| self.messages.contains_key(&(conversation.to_owned(), *seq))).count();
            if have as u64 == seq {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{have} of {seq} messages came");
            self.cursors.insert(conversation.to_owned(), have as u64);
            self.sync();
            // A sync has no end that is told: it is over when nothing more comes.
            while let Ok(Some(())) = timeout(Duration::from_millis(500), self.took_one()).await {}
        }
    }

    async fn took_one(&mut self) -> Option<()> {
        self.next().await.map(|_| ())
    }

    /// What the messages that it has of a conversation say, in sequence.
    pub fn bodies(&self, conversation: &str) -> Vec<String> {
        let of = self.messages.iter().filter(|((of, _), _)| of == conversation);
        of.map(|(_, push)| push.body.clone()).collect()
    }
}

/// Waits until it holds.
pub async fn until(mut holds: impl FnMut() -> bool) {
    in_time(async {
        while !holds() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// A registry that lists the nodes where the ways to them begin.
struct Detours {
    registry: Arc<dyn Backend>,
    detours: HashMap<SocketAddr, SocketAddr>,
    tasks: Mutex<JoinSet<()>>,
}

impl Discovery for Detours {
    fn watch(&self, service: &ServiceId) -> Addresses {
        let mut listed = self.registry.watch(service);
        let detours = self.detours.clone();
        let (shown, seen) = watch::channel(None);
        self.tasks.lock().expect("nobody panics with it").spawn(async move {
            loop {
                let list = listed.borrow_and_update().clone();
                let detour = |instance: &Instance| {
                    Instance::new(*detours.get(&instance.address()).unwrap_or(&instance.address()))
                };
                shown.send_replace(list.map(|list| list.iter().map(detour).collect()));
                if listed.changed().await.is_err() {
                    return;
                }
            }
        });
        seen
    }

    fn url(&self) -> &str {
        self.registry.url()
    }
}

impl Registry for Detours {
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

/// How long nodes of these tests are believed to live after their last sign of life.
pub const LEASE: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(60);
