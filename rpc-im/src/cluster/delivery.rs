//! [`Delivery`]: brings a payload to all sessions of a user, wherever they are.

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

use crate::{
    cluster::forward::NodeForwardClient,
    cluster::local_node::Me,
    cluster::peer_link::{Attempt, Letter, Outgoing, Returned},
    cluster::router::NodeRouter,
    directory::{Directory, Entry, Found},
    identity::{NodeKey, SessionId},
    session::local_sessions::{Fault, Payload, Sessions},
};

/// Brings a payload to all sessions of a user, wherever they are.
///
/// What does not arrive is looked up anew and tried again, three times within five seconds. Then it is the store's: a session
/// that could not be reached is told that it missed something as soon as its node can be reached.
pub(crate) struct Delivery {
    me: Arc<Me>,
    sessions: Arc<Sessions>,
    router: Arc<NodeRouter>,
    directory: Arc<dyn Directory>,
    returns: mpsc::Sender<Returned>,
}

impl Delivery {
    pub(crate) fn new(
        me: Arc<Me>,
        sessions: Arc<Sessions>,
        router: Arc<NodeRouter>,
        directory: Arc<dyn Directory>,
        returns: mpsc::Sender<Returned>,
    ) -> Self {
        Self { me, sessions, router, directory, returns }
    }

    /// The sessions of each of these users, in their order.
    pub(crate) async fn locate(&self, users: Vec<String>) -> Vec<Vec<Entry>> {
        let found = self.directory.lookup(users.clone()).await;
        let unknown: Vec<_> = (users.iter().zip(&found))
            .filter(|(_, found)| matches!(found, Found::Unknown(_)))
            .map(|(user, _)| user.clone())
            .collect();
        let mut asked = HashMap::<String, Vec<Entry>>::new();
        if !unknown.is_empty() {
            for entry in self.ask_all(&unknown).await {
                asked.entry(entry.user.clone()).or_default().push(entry);
            }
        }
        let entries = |(user, found)| match found {
            Found::Known(entries) => entries,
            Found::Unknown(mut entries) => {
                for entry in asked.remove(&user).unwrap_or_default() {
                    if !entries.contains(&entry) {
                        entries.push(entry);
                    }
                }
                entries
            }
        };
        users.into_iter().zip(found).map(entries).collect()
    }

    /// Sends letters to these users, in order; each but to the session that it is from.
    pub(crate) async fn send_to_users(&self, users: &[String], letters: &[(Arc<Letter>, Option<SessionId>)]) {
        let targets: Vec<_> = self.locate(users.to_vec()).await.into_iter().flatten().collect();
        for (letter, from) in letters {
            let targets = targets.iter().filter(|target| Some(target.session) != *from).cloned();
            self.send(letter, targets, Attempt::FIRST);
        }
    }

    /// Sends a letter to these sessions.
    pub(crate) fn send(&self, letter: &Arc<Letter>, targets: impl IntoIterator<Item = Entry>, attempt: Attempt) {
        let mut by_node = HashMap::<NodeKey, Vec<Entry>>::new();
        for target in targets {
            by_node.entry(target.node).or_default().push(target);
        }
        for (node, targets) in by_node {
            if node == self.me.key() {
                for target in targets {
                    if let Err(fault) = self.sessions.deliver(target.session, &letter.payload) {
                        self.give_back(letter, target, attempt, Some(fault));
                    }
                }
            } else if let Some(peer) = self.router.peer(node) {
                peer.send(Outgoing { letter: Arc::clone(letter), targets, attempt });
            } else {
                for target in targets {
                    self.give_back(letter, target, attempt, None);
                }
            }
        }
    }

    /// Tries again what was returned, for as long as it is polled.
    pub(crate) async fn run(&self, mut returns: mpsc::Receiver<Returned>) {
        let mut waiting = BinaryHeap::<Reverse<Waiting>>::new();
        let mut number = 0;
        loop {
            let due = waiting.peek().map(|Reverse(first)| first.due);
            tokio::select! {
                // Dropped, `recv` has taken nothing.
                returned = returns.recv() => {
                    let Some(returned) = returned else { return };
                    number += 1;
                    if let Some(due) = self.due(&returned, waiting.len()) {
                        waiting.push(Reverse(Waiting { due, number, returned }));
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let now = Instant::now();
                    let mut ready = Vec::new();
                    while waiting.peek().is_some_and(|Reverse(first)| first.due <= now) {
                        ready.extend(waiting.pop().map(|Reverse(first)| first.returned));
                    }
                    self.try_again(ready).await;
                }
            }
        }
    }

    /// When to try again, if at all.
    fn due(&self, returned: &Returned, waiting: usize) -> Option<Instant> {
        if let Some(from) = returned.letter.from {
            // What goes through a room is a stream: with a hole in it, it is over.
            self.sessions.kick(from, "the other side is gone");
            return None;
        }
        let pause = PAUSES.get(returned.attempt.0).filter(|_| waiting < MAX_WAITING);
        if pause.is_none() {
            self.give_up(returned);
        }
        pause.map(|pause| Instant::now() + *pause)
    }

    fn give_up(&self, returned: &Returned) {
        // Of a session that is over nobody waits for anything.
        if returned.fault == Some(Fault::NoSession) {
            return;
        }
        let (node, session) = (returned.target.node, returned.target.session);
        match self.router.peer(node) {
            Some(peer) => peer.remember(node, session),
            None => self.router.doubt(node),
        }
    }

    async fn try_again(&self, returned: Vec<Returned>) {
        for gone in returned.iter().filter(|returned| returned.fault == Some(Fault::NoSession)) {
            // Its node says that there is no such session: an entry that says otherwise is wrong.
            self.directory.release(gone.target.clone()).await;
        }
        let users = returned.iter().map(|returned| returned.target.user.clone()).collect();
        for (Returned { letter, target, attempt, .. }, entries) in returned.into_iter().zip(self.locate(users).await) {
            let same_device = entries.into_iter().filter(|entry| entry.device == target.device);
            self.send(&letter, same_device, Attempt(attempt.0 + 1));
        }
    }

    async fn ask_all(&self, users: &[String]) -> Vec<Entry> {
        let client = NodeForwardClient::new(self.router.client().clone());
        let view = self.router.view();
        let others = view.nodes.iter().filter(|node| node.key != self.me.key());
        let asked = join_all(others.map(async |node| {
            let has = client.who_has(users.to_vec()).address(node.address).await;
            // What it has of them does not get what this is about.
            has.inspect_err(|_| self.router.doubt(node.key)).unwrap_or_default()
        }));
        let mut entries = self.sessions.entries_of(users);
        entries.extend(asked.await.into_iter().flatten());
        entries
    }

    fn give_back(&self, letter: &Arc<Letter>, target: Entry, attempt: Attempt, fault: Option<Fault>) {
        let returned = Returned { letter: Arc::clone(letter), target, attempt, fault };
        if let Err(mpsc::error::TrySendError::Full(returned)) = self.returns.try_send(returned) {
            self.give_up(&returned);
        }
    }
}

/// Something that is tried again later; the earlier one is the lesser one.
struct Waiting {
    due: Instant,
    number: u64,
    returned: Returned,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

impl Letter {
    /// A letter with a frame for clients.
    pub(crate) fn of_frame(frame: crate::envelope::ServerFrame) -> Arc<Self> {
        Arc::new(Self::new(Payload::Frame(Arc::new(frame))))
    }
}

/// How long after each failure a payload is tried again: three times, within five seconds.
const PAUSES: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(900), Duration::from_millis(3500)];
/// Payloads that wait to be tried again; more are the store's at once.
const MAX_WAITING: usize = 65_536;
/// Returned payloads that were not looked at yet.
pub(crate) const MAX_RETURNED: usize = 8192;
