//! [`Embedded`]: the directory without a server: each user's sessions are known to one node, by rendezvous hashing.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use rpc_client::Client;
use rpc_core::{BoxFuture, CallError, rpc_service};
use tokio::time::{Instant, sleep, timeout};

use super::{AUDIT, CLAIM, ClaimError, Directory, Entry, Found, Policy, REPLACED, shard::Table};
use crate::{
    cluster::hops::Hops,
    cluster::local_node::Me,
    cluster::router::NodeRouter,
    cluster::view::{NodeInfo, View},
    identity::{NodeKey, SessionId},
    session::local_sessions::Sessions,
    session::terminator::Kicks,
};

/// What a node knows of the users that it is responsible for.
#[rpc_service(name = "im.Directory", version = "1.0")]
pub(crate) trait Authority {
    /// Enters a session.
    #[rpc(idempotent, timeout = "2s")]
    async fn claim(&self, hops: Hops, entry: Entry, policy: Policy) -> Result<(), ClaimError>;

    /// Takes exactly this session out.
    #[rpc(idempotent, timeout = "2s")]
    async fn release(&self, entry: Entry);

    /// What is known of these users.
    #[rpc(idempotent, timeout = "1s")]
    async fn lookup(&self, users: Vec<String>) -> Vec<Found>;

    /// All sessions of a node which this one is responsible for, in parts; gives those that have lost to others, and are over.
    #[rpc(idempotent, timeout = "3s")]
    async fn tell(&self, part: Telling, having: Vec<Having>, policy: Policy) -> Vec<Entry>;
}

/// Which part of all that a node tells.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(crate) struct Telling {
    node: NodeKey,
    /// Of the view by which it chose what to tell.
    fingerprint: u64,
    /// Sessions after this one began later than what is told was collected.
    before: SessionId,
    is_first: bool,
    is_last: bool,
}

/// A session that a node tells.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Having {
    entry: Entry,
    /// Whether it was let in; else it is being claimed, and is kept if it is known and not entered if it is not.
    entered: bool,
}

/// Which nodes have told all their sessions, by which view.
#[derive(Default)]
pub(crate) struct Told(Mutex<HashMap<NodeKey, u64>>);

/// The part of the directory that this node keeps, and the way to the other parts.
pub(crate) struct Embedded {
    me: Arc<Me>,
    router: Arc<NodeRouter>,
    sessions: Arc<Sessions>,
    kicks: Arc<Kicks>,
    told: Arc<Told>,
    table: Mutex<Table>,
    /// What came of what is being told in parts.
    telling: Mutex<HashMap<NodeKey, HashSet<SessionId>>>,
    policy: Policy,
    next_session: Box<dyn Fn() -> SessionId + Send + Sync>,
}

impl Told {
    pub(crate) fn of(&self, node: NodeKey) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&node).copied()
    }

    fn set(&self, node: NodeKey, fingerprint: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node, fingerprint);
    }

    fn retain(&self, view: &View) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|node, _| view.node(*node).is_some());
    }
}

impl Embedded {
    pub(crate) fn new(
        me: Arc<Me>,
        router: Arc<NodeRouter>,
        sessions: Arc<Sessions>,
        kicks: Arc<Kicks>,
        told: Arc<Told>,
        policy: Policy,
        next_session: impl Fn() -> SessionId + Send + Sync + 'static,
    ) -> Self {
        let (table, telling, next_session) = (Mutex::default(), Mutex::default(), Box::new(next_session));
        Self { me, router, sessions, kicks, told, table, telling, policy, next_session }
    }

    fn is_due(&self, node: &NodeInfo, view: &View, sent: &HashMap<NodeKey, (u64, Instant)>) -> bool {
        let told = if node.key == self.me.key() {
            self.told.of(node.key)
        } else {
            self.router.peer(node.key).and_then(|peer| peer.told())
        };
        let waits =
            sent.get(&node.key).is_some_and(|(print, at)| *print == view.fingerprint && at.elapsed() < PATIENCE);
        let audit = sent.get(&node.key).is_some_and(|(_, at)| at.elapsed() >= AUDIT);
        audit || told != Some(view.fingerprint) && !waits
    }

    /// Tells a node all sessions that it is responsible for; gives the node when it was told.
    async fn tell_all(&self, node: &NodeInfo, view: &View) -> Option<NodeKey> {
        // Before they are collected: see `Telling::before`.
        let before = (self.next_session)();
        let sessions = self.sessions.all();
        let of_node = sessions.iter().filter(|local| view.owner(&local.entry.user).key == node.key);
        let having: Vec<_> =
            of_node.map(|local| Having { entry: local.entry.clone(), entered: local.is_entered() }).collect();
        let parts = having.len().div_ceil(PART).max(1);
        for number in 0..parts {
            let part = Telling {
                node: self.me.key(),
                fingerprint: view.fingerprint,
                before,
                is_first: number == 0,
                is_last: number + 1 == parts,
            };
            let of_part: Vec<_> = having.iter().skip(number * PART).take(PART).cloned().collect();
            let told = of_part.clone();
            let lost = if node.key == self.me.key() {
                self.told(part, of_part, self.policy)
            } else {
                self.authority().tell(part, of_part, self.policy).address(node.address).await.ok()?
            };
            for entry in lost {
                self.sessions.kick(entry.session, REPLACED);
            }
            // Those that have ended meanwhile were released before they were told.
            for Having { entry, .. } in told.into_iter().filter(|told| !self.sessions.has(told.entry.session)) {
                self.release(entry).await;
            }
        }
        if let Some(peer) = self.router.peer(node.key) {
            peer.say_hello();
        }
        Some(node.key)
    }

    fn told(&self, part: Telling, having: Vec<Having>, policy: Policy) -> Vec<Entry> {
        let mut lost = Vec::new();
        let mut telling = self.telling();
        let kept = telling.entry(part.node).or_default();
        if part.is_first {
            kept.clear();
        }
        let mut table = self.table();
        for Having { entry, entered } in having {
            kept.insert(entry.session);
            if !entered {
                continue;
            }
            match table.restore(entry.clone(), entry.policy(policy)) {
                Ok(replaced) => self.kicks.kick(replaced, REPLACED),
                Err(_) => lost.push(entry),
            }
        }
        if part.is_last {
            table.retain_of(part.node, |entry| kept.contains(&entry.session) || entry.session > part.before);
            telling.remove(&part.node);
            self.told.set(part.node, part.fingerprint);
        }
        lost
    }

    /// What this node itself knows.
    fn known(&self, users: &[String]) -> Vec<Found> {
        let view = self.router.view();
        let all_told = view.nodes.iter().all(|node| self.told.of(node.key) == Some(view.fingerprint));
        let table = self.table();
        let found = |user: &String| {
            let living = table.sessions(user).iter().filter(|entry| view.node(entry.node).is_some());
            let entries = living.cloned().collect();
            if all_told && view.owner(user).key == self.me.key() {
                Found::Known(entries)
            } else {
                Found::Unknown(entries)
            }
        };
        users.iter().map(found).collect()
    }

    /// Enters a session here, or where it belongs.
    async fn try_claim(&self, hops: Hops, entry: Entry, policy: Policy) -> Result<(), ClaimError> {
        let unavailable = |why: String| Err(ClaimError::Unavailable(why));
        let Some(view) = self.router.sound_view() else {
            return unavailable("this node is cut off from the others".to_owned());
        };
        let owner = view.owner(&entry.user);
        if owner.key == self.me.key() {
            let replaced = self.table().claim(entry, policy)?;
            self.kicks.kick(replaced, REPLACED);
            return Ok(());
        }
        let Some(hops) = hops.next() else {
            return unavailable("the nodes do not agree yet which of them live".to_owned());
        };
        match self.authority().claim(hops, entry, policy).address(owner.address).await {
            Ok(()) => Ok(()),
            Err(CallError::Service(error)) => Err(error),
            Err(CallError::Rpc(error)) => unavailable(format!("node {} does not answer: {error}", owner.key.id)),
        }
    }

    fn authority(&self) -> AuthorityClient<Client> {
        AuthorityClient::new(self.router.client().clone())
    }

    fn telling(&self) -> MutexGuard<'_, HashMap<NodeKey, HashSet<SessionId>>> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directory for Embedded {
    fn claim(&self, entry: Entry) -> BoxFuture<'_, Result<(), ClaimError>> {
        Box::pin(async move {
            let policy = entry.policy(self.policy);
            let begun = Instant::now();
            loop {
                let owner = self.router.view().owner(&entry.user).key;
                let outcome = self.try_claim(Hops::NONE, entry.clone(), policy).await;
                let again = match &outcome {
                    Ok(()) => {
                        self.sessions.set_entered(entry.session);
                        // Who is responsible now may have been told before that it is entered.
                        self.router.view().owner(&entry.user).key != owner
                    }
                    Err(ClaimError::Unavailable(_)) => true,
                    Err(_) => false,
                };
                if !again || begun.elapsed() >= CLAIM {
                    return outcome;
                }
                sleep(BETWEEN_CLAIMS).await;
            }
        })
    }

    fn release(&self, entry: Entry) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let view = self.router.view();
            let owner = view.owner(&entry.user);
            self.table().release(&entry);
            if owner.key != self.me.key() {
                // One that is not told learns it when all is told, or when somebody delivers to the session in vain.
                let _ = self.authority().release(entry).address(owner.address).await;
            }
        })
    }

    fn lookup(&self, users: Vec<String>) -> BoxFuture<'_, Vec<Found>> {
        Box::pin(async move {
            let view = self.router.view();
            let mut by_owner = HashMap::<NodeKey, (&NodeInfo, Vec<usize>)>::new();
            for (place, user) in users.iter().enumerate() {
                let owner = view.owner(user);
                by_owner.entry(owner.key).or_insert((owner, Vec::new())).1.push(place);
            }
            let asked = by_owner.into_values().map(async |(owner, places)| {
                let users: Vec<_> = places.iter().map(|place| users[*place].clone()).collect();
                let found = if owner.key == self.me.key() {
                    self.known(&users)
                } else {
                    self.authority().lookup(users).address(owner.address).await.unwrap_or_default()
                };
                (places, found)
            });
            let mut all = vec![Found::Unknown(Vec::new()); users.len()];
            for (places, found) in join_all(asked).await {
                for (place, found) in places.into_iter().zip(found) {
                    all[place] = found;
                }
            }
            all
        })
    }

    /// Follows the changes of the view: forgets the sessions of nodes that are gone, and tells this node's own to those who are
    /// responsible for them now.
    fn run(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut views = self.router.watch();
            let mut sent = HashMap::<NodeKey, (u64, Instant)>::new();
            loop {
                let view = Arc::clone(&views.borrow_and_update());
                self.table().retain(|entry| view.node(entry.node).is_some());
                self.told.retain(&view);
                self.telling().retain(|node, _| view.node(*node).is_some());
                sent.retain(|node, _| view.node(*node).is_some());
                join_all(
                    view.nodes
                        .iter()
                        .filter(|node| self.is_due(node, &view, &sent))
                        .map(|node| self.tell_all(node, &view)),
                )
                .await
                .into_iter()
                .flatten()
                .for_each(|node| {
                    sent.insert(node, (view.fingerprint, Instant::now()));
                });
                // A look now and then finds those who have forgotten what they were told.
                let _ = timeout(LOOK, views.changed()).await;
            }
        })
    }
}

/// The end of [`Authority`] that other nodes call.
pub(crate) struct AuthorityOf(pub(crate) Arc<Embedded>);

impl Authority for AuthorityOf {
    async fn claim(&self, hops: Hops, entry: Entry, policy: Policy) -> Result<(), ClaimError> {
        self.0.try_claim(hops, entry, policy).await
    }

    async fn release(&self, entry: Entry) {
        self.0.table().release(&entry);
    }

    async fn lookup(&self, users: Vec<String>) -> Vec<Found> {
        self.0.known(&users)
    }

    async fn tell(&self, part: Telling, having: Vec<Having>, policy: Policy) -> Vec<Entry> {
        self.0.told(part, having, policy)
    }
}

/// Sessions that are told in one call.
const PART: usize = 2000;
/// How often it is looked whether somebody has to be told.
const LOOK: Duration = Duration::from_millis(500);
/// How long after it was told a node is waited for to say so.
const PATIENCE: Duration = Duration::from_secs(1);
const BETWEEN_CLAIMS: Duration = Duration::from_millis(200);
