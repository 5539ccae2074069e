//! [`PeerLink`]: the link to one other node.

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
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info};

use super::{
    local_node::LocalNode,
    message::{NodeMessage, OutgoingMessage},
    missed::MissedCounts,
    rpc::{HelloReply, NodeForwardClient, Recipients},
    view::NodeInfo,
};
use crate::{
    envelope::{Lagging, ServerFrame},
    identity::{NodeId, SessionId},
    session::{
        local_sessions::{DeliveryError, LocalSessions},
        queue::Queue,
        resync::ResyncNotifier,
    },
};

/// The link to one other node: periodic hellos, and the queue of outgoing messages.
///
/// A message that does not reach the node is not sent again, because the store has it. The link records the sessions
/// that missed a message; they receive `lagging` after the next hello, and sync.
pub(crate) struct PeerLink {
    address: SocketAddr,
    client: NodeForwardClient<Client>,
    state: Mutex<State>,
    queue: Queue<OutgoingMessage>,
    shared: Arc<LinkShared>,
    /// Triggers the next hello early.
    hello_now: Notify,
}

/// The components that all links of a node share.
pub(crate) struct LinkShared {
    pub(crate) sessions: Arc<LocalSessions>,
    /// Requested when the other node reports that clients of this one may have missed messages.
    pub(crate) resync: Arc<ResyncNotifier>,
    pub(crate) missed: Mutex<MissedCounts>,
    /// Notified whenever a hello completes.
    pub(crate) hello_done: Notify,
    /// The interval of hellos.
    pub(crate) beat: Duration,
    /// The time for which a node is alive after a hello.
    pub(crate) lease: Duration,
}

#[derive(Default)]
struct State {
    info: Option<NodeInfo>,
    /// The number of times that this node's clients may have missed messages from the other node.
    ///
    /// It is from the node's last reply.
    missed_count: u64,
    alive_until: Option<Instant>,
    delisted: bool,
    /// Sessions on the other node that missed a message.
    missed: HashSet<SessionId>,
}

impl PeerLink {
    pub(crate) fn new(address: SocketAddr, client: Client, shared: Arc<LinkShared>) -> Self {
        Self {
            address,
            client: NodeForwardClient::new(client),
            state: Mutex::default(),
            queue: Queue::new(MAX_WAITING, MAX_WAITING_BYTES),
            shared,
            hello_now: Notify::new(),
        }
    }

    /// Returns the node's description while it is alive.
    pub(crate) fn alive(&self, now: Instant) -> Option<NodeInfo> {
        let state = self.lock();
        state.alive_until.filter(|until| now < *until).and(state.info.clone())
    }

    /// Returns the id of the node that answered last, alive or not.
    pub(crate) fn last_id(&self) -> Option<NodeId> {
        self.lock().info.as_ref().map(|info| info.id)
    }

    /// Sets whether the cluster's membership still lists the node.
    ///
    /// A delisted node is alive no longer once a hello fails.
    pub(crate) fn set_listed(&self, listed: bool) {
        let was_listed = !mem::replace(&mut self.lock().delisted, !listed);
        if was_listed != listed {
            self.hello_now.notify_one();
        }
    }

    /// Returns whether sessions of the node missed messages and the node does not answer; forgets these sessions then.
    pub(crate) fn take_missed_if_unreachable(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let is_alive = state.alive_until.is_some_and(|until| now < until);
        // A node that answers receives `lagging` for them.
        !is_alive && !mem::take(&mut state.missed).is_empty()
    }

    /// Sends the next hello now.
    pub(crate) fn send_hello(&self) {
        self.hello_now.notify_one();
    }

    /// Queues a message.
    pub(crate) fn send(&self, outgoing: OutgoingMessage) {
        let bytes = outgoing.len();
        let (message, to) = (Arc::clone(&outgoing.message), outgoing.to.clone());
        if self.queue.push(outgoing, bytes).is_err() {
            contained(|| {
                debug!(
                    peer = %self.address,
                    max_messages = MAX_WAITING,
                    max_bytes = MAX_WAITING_BYTES,
                    "message not sent: the queue of the link is full"
                )
            });
            self.handle_undelivered(&message, &to, false);
        }
    }

    /// Sends hellos until dropped.
    pub(crate) async fn run_hellos(&self, local: &LocalNode) {
        let LinkShared { beat, lease, .. } = *self.shared;
        loop {
            let started = Instant::now();
            let answer = self.client.hello(local.info()).address(self.address).timeout(lease / 3).await;
            let reached = answer.is_ok();
            match answer {
                Ok(reply) => self.handle_hello_reply(started, reply),
                Err(error) => {
                    contained(|| debug!(address = %self.address, %error, "hello failed"));
                    let mut state = self.lock();
                    if state.delisted {
                        state.alive_until = None;
                    }
                }
            }
            self.shared.hello_done.notify_one();
            if reached {
                self.notify_missed();
            }
            let pause = if reached { beat } else { beat / 6 };
            // The next hello follows after the pause or the notification.
            let _ = timeout(pause, self.hello_now.notified()).await;
            sleep(MIN_HELLO_INTERVAL).await;
        }
    }

    /// Sends queued messages in batches and in order, until dropped.
    pub(crate) async fn run_queue(&self) {
        while let Some(batch) = self.queue.pop_batch(MAX_BATCH, MAX_BATCH_BYTES).await {
            self.send_batch(&batch).await;
        }
    }

    fn handle_hello_reply(&self, started: Instant, reply: HelloReply) {
        let HelloReply { info, missed_count } = reply;
        let mut state = self.lock();
        if state.info.as_ref().is_none_or(|known| known.id != info.id) {
            contained(|| info!(peer = %info.name, id = %info.id, address = %self.address, "connected to a node"));
            if state.info.is_some() {
                // The earlier run may have ended before it sent all messages.
                self.shared.resync.request();
            }
            // Clients of an earlier run sync when they reconnect.
            (state.missed, state.missed_count) = (HashSet::new(), 0);
        }
        if missed_count > state.missed_count {
            self.shared.resync.request();
        }
        (state.info, state.missed_count) = (Some(info), missed_count);
        state.alive_until = Some(started + self.shared.lease);
    }

    async fn send_batch(&self, batch: &[OutgoingMessage]) {
        let answer = match self.last_id() {
            Some(id) => {
                let messages = batch.iter().map(OutgoingMessage::to_wire).collect();
                self.client.deliver(id, messages).address(self.address).await.ok()
            }
            None => None,
        };
        let Some(Some(failures)) = answer else {
            let other_run = answer.is_some();
            batch.iter().for_each(|outgoing| self.handle_undelivered(&outgoing.message, &outgoing.to, other_run));
            return;
        };
        for failure in failures {
            let Some(outgoing) = batch.get(failure.message as usize) else { continue };
            let is_room = outgoing.message.from.is_some();
            // A session that has ended needs no message; its successor syncs.
            if is_room || failure.error != DeliveryError::NoSession {
                self.handle_undelivered(&outgoing.message, &Recipients::Sessions(vec![failure.session]), false);
            }
        }
    }

    /// Handles a message that did not reach these sessions. With `other_run`, another run of the node has answered.
    fn handle_undelivered(&self, message: &NodeMessage, to: &Recipients, other_run: bool) {
        if let Some(from) = message.from {
            // A room carries a stream, which cannot continue after a gap.
            self.shared.sessions.kick(from, "the other side of the room is not connected");
            return;
        }
        let mut state = self.lock();
        match to {
            Recipients::Sessions(sessions) if state.missed.len() + sessions.len() <= MAX_MISSED => {
                state.missed.extend(sessions);
            }
            _ => {
                let id = state.info.as_ref().map(|info| info.id);
                drop(state);
                match id {
                    Some(id) if !other_run => self.shared.missed().handle_missed(id),
                    _ => self.shared.missed().handle_missed_by_unknown(),
                }
            }
        }
    }

    fn notify_missed(&self) {
        let missed = mem::take(&mut self.lock().missed);
        if !missed.is_empty() {
            let message = NodeMessage::frame(ServerFrame::Lagging(Lagging::default()));
            self.send(OutgoingMessage { message, to: Recipients::Sessions(missed.into_iter().collect()) });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LinkShared {
    pub(crate) fn missed(&self) -> MutexGuard<'_, MissedCounts> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
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
/// The maximum number of sessions that a link records as having missed a message; above it, all sessions of the node
/// count.
const MAX_MISSED: usize = 65_536;
/// The minimum pause between two hellos, also for early ones.
const MIN_HELLO_INTERVAL: Duration = Duration::from_millis(20);
