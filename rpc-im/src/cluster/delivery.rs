//! [`Delivery`]: delivers payloads to all sessions of a user, on any node.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    local_node::LocalNode,
    message::{Attempt, NodeMessage, OutgoingMessage, Undelivered},
    router::NodeRouter,
    rpc::NodeForwardClient,
};
use crate::{
    directory::{Directory, LookupResult, SessionEntry},
    identity::{NodeKey, SessionId},
    session::local_sessions::{DeliveryError, LocalSessions},
};

/// Delivers payloads to all sessions of a user, on any node.
///
/// A failed delivery is looked up again and retried three times within five seconds. After that the client has to read
/// the message from the store: the session receives `lagging` as soon as its node can be reached.
pub(crate) struct Delivery {
    local: Arc<LocalNode>,
    sessions: Arc<LocalSessions>,
    router: Arc<NodeRouter>,
    directory: Arc<dyn Directory>,
    undelivered: mpsc::Sender<Undelivered>,
}

impl Delivery {
    pub(crate) fn new(
        local: Arc<LocalNode>,
        sessions: Arc<LocalSessions>,
        router: Arc<NodeRouter>,
        directory: Arc<dyn Directory>,
        undelivered: mpsc::Sender<Undelivered>,
    ) -> Self {
        Self { local, sessions, router, directory, undelivered }
    }

    /// Returns the sessions of each of these users, in the order of the users.
    pub(crate) async fn locate(&self, users: Vec<String>) -> Vec<Vec<SessionEntry>> {
        let results = self.directory.lookup(users.clone()).await;
        let incomplete: Vec<_> = (users.iter().zip(&results))
            .filter(|(_, result)| matches!(result, LookupResult::Partial(_)))
            .map(|(user, _)| user.clone())
            .collect();
        let mut reported = HashMap::<String, Vec<SessionEntry>>::new();
        if !incomplete.is_empty() {
            for entry in self.ask_all(&incomplete).await {
                reported.entry(entry.user.clone()).or_default().push(entry);
            }
        }
        let entries = |(user, result)| match result {
            LookupResult::Complete(entries) => entries,
            LookupResult::Partial(mut entries) => {
                for entry in reported.remove(&user).unwrap_or_default() {
                    if !entries.contains(&entry) {
                        entries.push(entry);
                    }
                }
                entries
            }
        };
        users.into_iter().zip(results).map(entries).collect()
    }

    /// Sends messages to these users in order, each except to the session that it is from.
    pub(crate) async fn send_to_users(&self, users: &[String], messages: &[(Arc<NodeMessage>, Option<SessionId>)]) {
        let targets: Vec<_> = self.locate(users.to_vec()).await.into_iter().flatten().collect();
        for (message, from) in messages {
            let targets = targets.iter().filter(|target| Some(target.session) != *from).cloned();
            self.send(message, targets, Attempt::FIRST);
        }
    }

    /// Sends a message to these sessions.
    pub(crate) fn send(
        &self,
        message: &Arc<NodeMessage>,
        targets: impl IntoIterator<Item = SessionEntry>,
        attempt: Attempt,
    ) {
        let mut by_node = HashMap::<NodeKey, Vec<SessionEntry>>::new();
        for target in targets {
            by_node.entry(target.node).or_default().push(target);
        }
        for (node, targets) in by_node {
            if node == self.local.key() {
                for target in targets {
                    if let Err(error) = self.sessions.deliver(target.session, &message.payload) {
                        self.return_undelivered(message, target, attempt, Some(error));
                    }
                }
            } else if let Some(peer) = self.router.peer(node) {
                peer.send(OutgoingMessage { message: Arc::clone(message), targets, attempt });
            } else {
                for target in targets {
                    self.return_undelivered(message, target, attempt, None);
                }
            }
        }
    }

    /// Retries failed deliveries until dropped.
    pub(crate) async fn run(&self, mut undelivered: mpsc::Receiver<Undelivered>) {
        let mut waiting = BinaryHeap::<Reverse<Retry>>::new();
        let mut number = 0;
        loop {
            let due = waiting.peek().map(|Reverse(first)| first.due);
            tokio::select! {
                // `recv` is cancel safe: no message is lost when the other branch completes.
                received = undelivered.recv() => {
                    let Some(undelivered) = received else { return };
                    number += 1;
                    if let Some(due) = self.retry_time(&undelivered, waiting.len()) {
                        waiting.push(Reverse(Retry { due, number, undelivered }));
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let now = Instant::now();
                    let mut ready = Vec::new();
                    while waiting.peek().is_some_and(|Reverse(first)| first.due <= now) {
                        ready.extend(waiting.pop().map(|Reverse(first)| first.undelivered));
                    }
                    self.retry(ready).await;
                }
            }
        }
    }

    /// Returns the time of the next attempt; `None` after the last one, and for messages of a room.
    fn retry_time(&self, undelivered: &Undelivered, waiting: usize) -> Option<Instant> {
        if let Some(from) = undelivered.message.from {
            // A room carries a stream, which cannot continue after a gap.
            self.sessions.kick(from, "the other side of the room is not connected");
            return None;
        }
        let pause = RETRY_PAUSES.get(undelivered.attempt.0).filter(|_| waiting < MAX_RETRIES);
        if pause.is_none() {
            self.give_up(undelivered);
        }
        pause.map(|pause| Instant::now() + *pause)
    }

    /// Ensures that the session resyncs, unless it has ended.
    fn give_up(&self, undelivered: &Undelivered) {
        if undelivered.error == Some(DeliveryError::NoSession) {
            return;
        }
        let (node, session) = (undelivered.target.node, undelivered.target.session);
        match self.router.peer(node) {
            Some(peer) => peer.remember_missed(node, session),
            None => self.router.record_missed(node),
        }
    }

    async fn retry(&self, failed: Vec<Undelivered>) {
        for ended in failed.iter().filter(|undelivered| undelivered.error == Some(DeliveryError::NoSession)) {
            // The session's node reported that it has ended, so the directory's entry is stale.
            self.directory.release(ended.target.clone()).await;
        }
        let users = failed.iter().map(|undelivered| undelivered.target.user.clone()).collect();
        for (undelivered, entries) in failed.into_iter().zip(self.locate(users).await) {
            let Undelivered { message, target, attempt, .. } = undelivered;
            let same_device = entries.into_iter().filter(|entry| entry.device == target.device);
            self.send(&message, same_device, attempt.next());
        }
    }

    /// Queries all nodes for their sessions of these users.
    async fn ask_all(&self, users: &[String]) -> Vec<SessionEntry> {
        let client = NodeForwardClient::new(self.router.client().clone());
        let view = self.router.view();
        let others = view.nodes.iter().filter(|node| node.key != self.local.key());
        let asked = join_all(others.map(async |node| {
            let entries = client.sessions_of(users.to_vec()).address(node.address).await;
            // Sessions of a node that did not answer miss the message that this lookup is for.
            entries.inspect_err(|_| self.router.record_missed(node.key)).unwrap_or_default()
        }));
        let mut entries = self.sessions.entries_of(users);
        entries.extend(asked.await.into_iter().flatten());
        entries
    }

    fn return_undelivered(
        &self,
        message: &Arc<NodeMessage>,
        target: SessionEntry,
        attempt: Attempt,
        error: Option<DeliveryError>,
    ) {
        let undelivered = Undelivered { message: Arc::clone(message), target, attempt, error };
        if let Err(mpsc::error::TrySendError::Full(undelivered)) = self.undelivered.try_send(undelivered) {
            self.give_up(&undelivered);
        }
    }
}

/// A delivery that waits for its next attempt, ordered by time.
struct Retry {
    due: Instant,
    number: u64,
    undelivered: Undelivered,
}

impl Ord for Retry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl PartialOrd for Retry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Retry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Retry {}

/// The pauses before the attempts after the first one: three attempts within five seconds.
const RETRY_PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(900), Duration::from_millis(3500)];
/// The maximum number of deliveries that wait for their next attempt.
///
/// Above it, a failed delivery is not retried, and the session receives `lagging`.
const MAX_RETRIES: usize = 65_536;
/// The capacity of the channel of failed deliveries.
pub(crate) const MAX_UNDELIVERED: usize = 8192;
