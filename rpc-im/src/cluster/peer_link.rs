//! [`PeerLink`]: the way to one other node, for as long as the registry lists it.

use std::{
    collections::HashSet,
    mem,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rpc_client::Client;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info};

use crate::{
    cluster::forward::{Kind, NodeForwardClient, Parcel, Welcome},
    cluster::local_node::Me,
    cluster::resync_counters::Sightings,
    cluster::view::NodeInfo,
    directory::Entry,
    envelope::{Lagging, ServerFrame},
    identity::{NodeKey, SessionId},
    session::local_sessions::{Fault, Payload},
    session::queue::Queue,
    session::resync::Doubt,
};

/// The way to one other node: its hellos, and the queue of what goes there.
pub(crate) struct PeerLink {
    address: SocketAddr,
    client: NodeForwardClient<Client>,
    state: Mutex<State>,
    queue: Queue<Outgoing>,
    returns: mpsc::Sender<Returned>,
    /// Told whenever a hello ends.
    greeted: Arc<Notify>,
    /// Says hello at once.
    hurry: Notify,
    /// Raised when the node has lost sight of this one.
    doubt: Arc<Doubt>,
    /// Told when more was missed there than can be remembered.
    sightings: Arc<Mutex<Sightings>>,
    beat: Duration,
    lease: Duration,
}

#[derive(Default)]
struct State {
    info: Option<NodeInfo>,
    told: Option<u64>,
    /// How often this node's clients may have missed something, as the other one says.
    doubts: u64,
    alive_until: Option<Instant>,
    /// When the newest hello that has ended was begun.
    tried: Option<Instant>,
    delisted: bool,
    /// Sessions there that did not get something, and are told when the node is reached again.
    missed: HashSet<SessionId>,
}

/// One payload on its way, however many it is for.
pub(crate) struct Letter {
    pub(crate) payload: Payload,
    /// The session of this node that is told when it does not arrive: the other side of a room.
    pub(crate) from: Option<SessionId>,
    encoded: OnceLock<Bytes>,
}

/// A letter for sessions of one node.
pub(crate) struct Outgoing {
    pub(crate) letter: Arc<Letter>,
    pub(crate) targets: Vec<Entry>,
    pub(crate) attempt: Attempt,
}

/// Which attempt to deliver something it is, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt(pub(crate) usize);

/// What did not arrive, for one session.
pub(crate) struct Returned {
    pub(crate) letter: Arc<Letter>,
    pub(crate) target: Entry,
    pub(crate) attempt: Attempt,
    /// What the node says; `None` when it did not answer.
    pub(crate) fault: Option<Fault>,
}

impl Letter {
    pub(crate) fn new(payload: Payload) -> Self {
        Self { payload, from: None, encoded: OnceLock::new() }
    }

    pub(crate) fn of_room(bytes: Bytes, from: SessionId) -> Self {
        Self { payload: Payload::Opaque(bytes), from: Some(from), encoded: OnceLock::new() }
    }

    fn kind(&self) -> Kind {
        match self.payload {
            Payload::Frame(_) => Kind::Frame,
            Payload::Opaque(_) => Kind::Opaque,
        }
    }

    fn encoded(&self) -> &Bytes {
        self.encoded.get_or_init(|| match &self.payload {
            Payload::Frame(frame) => frame.to_protobuf().into(),
            Payload::Opaque(bytes) => bytes.clone(),
        })
    }
}

impl Attempt {
    pub(crate) const FIRST: Self = Self(0);
}

impl PeerLink {
    pub(crate) fn new(
        address: SocketAddr,
        client: Client,
        returns: mpsc::Sender<Returned>,
        greeted: Arc<Notify>,
        (doubt, sightings): (Arc<Doubt>, Arc<Mutex<Sightings>>),
        (beat, lease): (Duration, Duration),
    ) -> Self {
        Self {
            address,
            client: NodeForwardClient::new(client),
            state: Mutex::default(),
            queue: Queue::new(MAX_WAITING, MAX_WAITING_BYTES),
            returns,
            greeted,
            hurry: Notify::new(),
            doubt,
            sightings,
            beat,
            lease,
        }
    }

    /// What the node says of itself, while it lives.
    pub(crate) fn living(&self, now: Instant) -> Option<NodeInfo> {
        let state = self.lock();
        state.alive_until.filter(|until| now < *until).and(state.info.clone())
    }

    /// Whether a hello that was begun at `since` or later has ended, well or not.
    pub(crate) fn was_tried(&self, since: Instant) -> bool {
        self.lock().tried.is_some_and(|tried| since <= tried)
    }

    /// The fingerprint of this node's view with which its sessions were last all told there.
    pub(crate) fn told(&self) -> Option<u64> {
        self.lock().told
    }

    /// Whether the registry lists the node still: one that is not listed dies with its first failed hello.
    pub(crate) fn set_listed(&self, listed: bool) {
        let was = mem::replace(&mut self.lock().delisted, !listed);
        if was == listed {
            self.hurry.notify_one();
        }
    }

    pub(crate) fn say_hello(&self) {
        self.hurry.notify_one();
    }

    /// Lets something go there; it comes back through `returns` if it does not arrive.
    pub(crate) fn send(&self, outgoing: Outgoing) {
        let bytes = outgoing.letter.encoded().len() + SESSION_LEN * outgoing.targets.len();
        let Outgoing { letter, targets, attempt } = outgoing;
        let queued = Outgoing { letter: Arc::clone(&letter), targets: targets.clone(), attempt };
        if self.queue.push(queued, bytes).is_err() {
            debug!(peer = %self.address, "the queue to a node is full");
            self.give_back(&letter, targets, attempt, Some(Fault::Full));
        }
    }

    /// Tells this session, once the node is reached again, that it missed something. When there are too many of them, all are told.
    pub(crate) fn remember(&self, node: NodeKey, session: SessionId) {
        let mut state = self.lock();
        if state.missed.len() < MAX_MISSED {
            state.missed.insert(session);
        } else {
            self.sightings.lock().unwrap_or_else(PoisonError::into_inner).handle_doubt(node);
        }
    }

    /// Says hello for as long as it is polled.
    pub(crate) async fn greet(&self, me: &Me) {
        loop {
            let started = Instant::now();
            let answer = self.client.hello(me.info()).address(self.address).timeout(self.lease / 3).await;
            let reached = answer.is_ok();
            match answer {
                Ok(welcome) => self.met(started, welcome),
                Err(error) => {
                    debug!(address = %self.address, %error, "a hello was not answered");
                    let mut state = self.lock();
                    state.tried = Some(started);
                    if state.delisted {
                        state.alive_until = None;
                    }
                }
            }
            self.greeted.notify_one();
            if reached {
                self.tell_missed();
            }
            let pause = if reached { self.beat } else { self.beat / 6 };
            // Either way the next thing is a hello.
            let _ = timeout(pause, self.hurry.notified()).await;
            sleep(BETWEEN_HELLOS).await;
        }
    }

    fn met(&self, started: Instant, welcome: Welcome) {
        let Welcome { info, told, doubts } = welcome;
        let mut state = self.lock();
        if state.info.as_ref().is_none_or(|known| known.key != info.key) {
            info!(peer = %info.key, address = %self.address, "met a node");
            // What an earlier life missed, its clients ask for when they come back.
            (state.missed, state.doubts) = (HashSet::new(), 0);
        }
        if doubts > state.doubts {
            self.doubt.raise();
        }
        (state.info, state.told, state.doubts) = (Some(info), told, doubts);
        (state.tried, state.alive_until) = (Some(started), Some(started + self.lease));
    }

    /// Sends what waits, a batch at a time and in order, for as long as it is polled.
    pub(crate) async fn forward(&self) {
        while let Some(batch) = self.queue.pop_batch(MAX_BATCH, MAX_BATCH_BYTES).await {
            self.forward_batch(batch).await;
        }
    }

    async fn forward_batch(&self, batch: Vec<Outgoing>) {
        let epoch = self.lock().info.as_ref().map(|info| info.key.epoch);
        let parcel = |outgoing: &Outgoing| Parcel {
            sessions: outgoing.targets.iter().map(|target| target.session).collect(),
            kind: outgoing.letter.kind(),
            payload: outgoing.letter.encoded().clone(),
        };
        let answer = match epoch {
            Some(epoch) => {
                self.client.deliver(epoch, batch.iter().map(parcel).collect()).address(self.address).await.ok()
            }
            None => None,
        };
        let Some(failures) = answer else {
            for Outgoing { letter, targets, attempt } in batch {
                self.give_back(&letter, targets, attempt, None);
            }
            return;
        };
        for failure in failures {
            let Some(outgoing) = batch.get(failure.parcel as usize) else { continue };
            let target = outgoing.targets.iter().find(|target| target.session == failure.session).cloned();
            self.give_back(&outgoing.letter, target, outgoing.attempt, Some(failure.fault));
        }
    }

    fn give_back(
        &self,
        letter: &Arc<Letter>,
        targets: impl IntoIterator<Item = Entry>,
        attempt: Attempt,
        fault: Option<Fault>,
    ) {
        for target in targets {
            let (node, session) = (target.node, target.session);
            let returned = Returned { letter: Arc::clone(letter), target, attempt, fault };
            // With so much to try again, the store has it.
            if self.returns.try_send(returned).is_err() {
                self.remember(node, session);
            }
        }
    }

    fn tell_missed(&self) {
        let missed = mem::take(&mut self.lock().missed);
        if missed.is_empty() {
            return;
        }
        let Some(node) = self.lock().info.as_ref().map(|info| info.key) else { return };
        let letter = Arc::new(Letter::new(Payload::Frame(Arc::new(ServerFrame::Lagging(Lagging::default())))));
        let unnamed =
            |session| Entry { user: String::new(), device: String::new(), platform: String::new(), node, session };
        let targets = missed.into_iter().map(unnamed).collect();
        self.send(Outgoing { letter, targets, attempt: Attempt::FIRST });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Letters that wait for one node at most.
const MAX_WAITING: usize = 8192;
/// Their bytes at most: 8 MiB.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// Letters that go in one call at most.
const MAX_BATCH: usize = 256;
/// Their bytes at most, unless one is longer: 64 KiB.
const MAX_BATCH_BYTES: usize = 64 << 10;
/// Sessions that are remembered to have missed something.
const MAX_MISSED: usize = 65_536;
/// The bytes of a session's id.
const SESSION_LEN: usize = 8;
/// Hellos do not follow each other faster, whatever hurries them.
const BETWEEN_HELLOS: Duration = Duration::from_millis(20);
