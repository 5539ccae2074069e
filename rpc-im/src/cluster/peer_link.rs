//! [`PeerLink`]: the link to one other node, for as long as the registry lists it.

use std::{
    collections::HashSet,
    mem,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rpc_client::Client;
use rpc_core::contained;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info};

use super::{
    local_node::LocalNode,
    message::{Attempt, NodeMessage, OutgoingMessage, Undelivered},
    resync_counters::ResyncCounters,
    rpc::{HelloReply, NodeForwardClient},
    view::NodeInfo,
};
use crate::{
    directory::SessionEntry,
    envelope::{Lagging, ServerFrame},
    identity::{NodeKey, SessionId},
    session::{local_sessions::DeliveryError, queue::Queue, resync::ResyncNotifier},
};

/// The link to one other node: periodic hellos, and the queue of outgoing messages.
pub(crate) struct PeerLink {
    address: SocketAddr,
    client: NodeForwardClient<Client>,
    state: Mutex<State>,
    queue: Queue<OutgoingMessage>,
    undelivered: mpsc::Sender<Undelivered>,
    /// Notified whenever a hello completes.
    hello_done: Arc<Notify>,
    /// Triggers the next hello early.
    hello_now: Notify,
    /// Requested when the other node reports that clients of this one may have missed messages.
    resync: Arc<ResyncNotifier>,
    /// Counts for the other node when more of its sessions missed messages than the link records.
    resync_counters: Arc<Mutex<ResyncCounters>>,
    beat: Duration,
    lease: Duration,
}

#[derive(Default)]
struct State {
    info: Option<NodeInfo>,
    reported_view: Option<u64>,
    /// The number of times that this node's clients may have missed messages from the other node.
    ///
    /// It is from the node's last reply.
    missed_count: u64,
    alive_until: Option<Instant>,
    /// The start of the newest completed hello.
    last_hello: Option<Instant>,
    delisted: bool,
    /// Sessions on the other node that missed a message; they receive `lagging` after the next hello.
    missed: HashSet<SessionId>,
}

impl PeerLink {
    pub(crate) fn new(
        address: SocketAddr,
        client: Client,
        undelivered: mpsc::Sender<Undelivered>,
        hello_done: Arc<Notify>,
        (resync, resync_counters): (Arc<ResyncNotifier>, Arc<Mutex<ResyncCounters>>),
        (beat, lease): (Duration, Duration),
    ) -> Self {
        Self {
            address,
            client: NodeForwardClient::new(client),
            state: Mutex::default(),
            queue: Queue::new(MAX_WAITING, MAX_WAITING_BYTES),
            undelivered,
            hello_done,
            hello_now: Notify::new(),
            resync,
            resync_counters,
            beat,
            lease,
        }
    }

    /// Returns the node's description while it is alive.
    pub(crate) fn alive(&self, now: Instant) -> Option<NodeInfo> {
        let state = self.lock();
        state.alive_until.filter(|until| now < *until).and(state.info.clone())
    }

    /// Returns whether a hello that started at `since` or later has completed, successfully or not.
    pub(crate) fn tried_since(&self, since: Instant) -> bool {
        self.lock().last_hello.is_some_and(|started| since <= started)
    }

    /// Returns the fingerprint of the view of this node's last complete report to the other node.
    pub(crate) fn reported_view(&self) -> Option<u64> {
        self.lock().reported_view
    }

    /// Sets whether the registry still lists the node.
    ///
    /// The first failed hello ends the lease of a delisted node.
    pub(crate) fn set_listed(&self, listed: bool) {
        let was_listed = !mem::replace(&mut self.lock().delisted, !listed);
        if was_listed != listed {
            self.hello_now.notify_one();
        }
    }

    /// Sends the next hello now.
    pub(crate) fn send_hello(&self) {
        self.hello_now.notify_one();
    }

    /// Queues a message; each failed delivery comes back through `undelivered`.
    pub(crate) fn send(&self, outgoing: OutgoingMessage) {
        let bytes = outgoing.message.encoded().len() + SESSION_LEN * outgoing.targets.len();
        let OutgoingMessage { message, targets, attempt } = outgoing;
        let queued = OutgoingMessage { message: Arc::clone(&message), targets: targets.clone(), attempt };
        if self.queue.push(queued, bytes).is_err() {
            contained(|| {
                debug!(
                    peer = %self.address,
                    max_messages = MAX_WAITING,
                    max_bytes = MAX_WAITING_BYTES,
                    "message not sent: the queue of the link is full"
                )
            });
            self.return_undelivered(&message, targets, attempt, Some(DeliveryError::Full));
        }
    }

    /// Records a session that missed a message, for a `lagging` once the node is reached again.
    ///
    /// Above [`MAX_MISSED`] sessions, all sessions of the node resync.
    pub(crate) fn remember_missed(&self, node: NodeKey, session: SessionId) {
        let mut state = self.lock();
        if state.missed.len() < MAX_MISSED {
            state.missed.insert(session);
        } else {
            self.resync_counters.lock().unwrap_or_else(PoisonError::into_inner).handle_missed(node);
        }
    }

    /// Sends hellos until dropped.
    pub(crate) async fn run_hellos(&self, local: &LocalNode) {
        loop {
            let started = Instant::now();
            let answer = self.client.hello(local.info()).address(self.address).timeout(self.lease / 3).await;
            let reached = answer.is_ok();
            match answer {
                Ok(reply) => self.handle_hello_reply(started, reply),
                Err(error) => {
                    contained(|| debug!(address = %self.address, %error, "hello failed"));
                    let mut state = self.lock();
                    state.last_hello = Some(started);
                    if state.delisted {
                        state.alive_until = None;
                    }
                }
            }
            self.hello_done.notify_one();
            if reached {
                self.notify_missed();
            }
            let pause = if reached { self.beat } else { self.beat / 6 };
            // The next hello follows after the pause or the notification.
            let _ = timeout(pause, self.hello_now.notified()).await;
            sleep(MIN_HELLO_INTERVAL).await;
        }
    }

    /// Sends queued messages in batches and in order, until dropped.
    pub(crate) async fn run_queue(&self) {
        while let Some(batch) = self.queue.pop_batch(MAX_BATCH, MAX_BATCH_BYTES).await {
            self.send_batch(batch).await;
        }
    }

    fn handle_hello_reply(&self, started: Instant, reply: HelloReply) {
        let HelloReply { info, reported_view, missed_count } = reply;
        let mut state = self.lock();
        if state.info.as_ref().is_none_or(|known| known.key != info.key) {
            contained(|| info!(peer = %info.key, address = %self.address, "connected to a node"));
            // Clients of an earlier epoch resync when they reconnect.
            (state.missed, state.missed_count) = (HashSet::new(), 0);
        }
        if missed_count > state.missed_count {
            self.resync.request();
        }
        (state.info, state.reported_view, state.missed_count) = (Some(info), reported_view, missed_count);
        (state.last_hello, state.alive_until) = (Some(started), Some(started + self.lease));
    }

    async fn send_batch(&self, batch: Vec<OutgoingMessage>) {
        let epoch = self.lock().info.as_ref().map(|info| info.key.epoch);
        let answer = match epoch {
            Some(epoch) => {
                let messages = batch.iter().map(OutgoingMessage::to_wire).collect();
                self.client.deliver(epoch, messages).address(self.address).await.ok()
            }
            None => None,
        };
        let Some(failures) = answer else {
            for OutgoingMessage { message, targets, attempt } in batch {
                self.return_undelivered(&message, targets, attempt, None);
            }
            return;
        };
        for failure in failures {
            let Some(outgoing) = batch.get(failure.message as usize) else { continue };
            let target = outgoing.targets.iter().find(|target| target.session == failure.session).cloned();
            self.return_undelivered(&outgoing.message, target, outgoing.attempt, Some(failure.error));
        }
    }

    fn return_undelivered(
        &self,
        message: &Arc<NodeMessage>,
        targets: impl IntoIterator<Item = SessionEntry>,
        attempt: Attempt,
        error: Option<DeliveryError>,
    ) {
        for target in targets {
            let (node, session) = (target.node, target.session);
            let undelivered = Undelivered { message: Arc::clone(message), target, attempt, error };
            // Above the limit of waiting retries, the client reads the message from the store.
            if self.undelivered.try_send(undelivered).is_err() {
                self.remember_missed(node, session);
            }
        }
    }

    fn notify_missed(&self) {
        let missed = mem::take(&mut self.lock().missed);
        if missed.is_empty() {
            return;
        }
        let Some(node) = self.lock().info.as_ref().map(|info| info.key) else { return };
        let message = NodeMessage::frame(ServerFrame::Lagging(Lagging::default()));
        let unnamed = |session| SessionEntry {
            user: String::new(),
            device: String::new(),
            platform: String::new(),
            node,
            session,
        };
        let targets = missed.into_iter().map(unnamed).collect();
        self.send(OutgoingMessage { message, targets, attempt: Attempt::FIRST });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The maximum number of messages in the queue of a link.
const MAX_WAITING: usize = 8192;
/// The maximum number of bytes in the queue of a link: 8 MiB.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// The maximum number of messages in one call.
const MAX_BATCH: usize = 256;
/// The maximum number of bytes in one call, unless a single message is longer: 64 KiB.
const MAX_BATCH_BYTES: usize = 64 << 10;
/// The maximum number of sessions that a link records as having missed a message.
const MAX_MISSED: usize = 65_536;
/// The length of a session id in bytes.
const SESSION_LEN: usize = 8;
/// The minimum pause between two hellos, also for early ones.
const MIN_HELLO_INTERVAL: Duration = Duration::from_millis(20);
