//! [`EmbeddedDirectory`]: the directory without a server.
//!
//! One node stores the sessions of each user, chosen by rendezvous hashing.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use rpc_client::Client;
use rpc_core::{BoxFuture, CallError};
use tokio::time::{Instant, sleep, timeout};

use super::{
    AUDIT_INTERVAL, CLAIM_PAUSE, CLAIM_TIME, ClaimError, Directory, LookupResult, Policy, REPLACED, SessionEntry,
    authority::{Authority, AuthorityClient, ReportPart, ReportedSession},
    reports::ReportedNodes,
    shard::Shard,
};
use crate::{
    cluster::{
        hops::Hops,
        local_node::LocalNode,
        router::NodeRouter,
        view::{NodeInfo, View},
    },
    identity::{NodeKey, SessionId},
    session::{local_sessions::LocalSessions, terminator::SessionTerminator},
};

/// The part of the directory that this node stores, and the calls to the other parts.
pub(crate) struct EmbeddedDirectory {
    local: Arc<LocalNode>,
    router: Arc<NodeRouter>,
    sessions: Arc<LocalSessions>,
    terminator: Arc<SessionTerminator>,
    reported: Arc<ReportedNodes>,
    shard: Mutex<Shard>,
    /// For each node with an incomplete report: the sessions of the parts so far.
    incomplete: Mutex<HashMap<NodeKey, HashSet<SessionId>>>,
    policy: Policy,
    next_session: Box<dyn Fn() -> SessionId + Send + Sync>,
}

/// The implementation of [`Authority`] that other nodes call.
pub(crate) struct AuthorityService(pub(crate) Arc<EmbeddedDirectory>);

impl EmbeddedDirectory {
    pub(crate) fn new(
        local: Arc<LocalNode>,
        router: Arc<NodeRouter>,
        sessions: Arc<LocalSessions>,
        terminator: Arc<SessionTerminator>,
        reported: Arc<ReportedNodes>,
        policy: Policy,
        next_session: impl Fn() -> SessionId + Send + Sync + 'static,
    ) -> Self {
        let (shard, incomplete, next_session) = (Mutex::default(), Mutex::default(), Box::new(next_session));
        Self { local, router, sessions, terminator, reported, shard, incomplete, policy, next_session }
    }

    /// Returns whether a report to a node is due: after a view change, and at each [`AUDIT_INTERVAL`].
    fn is_report_due(&self, node: &NodeInfo, view: &View, sent: &HashMap<NodeKey, (u64, Instant)>) -> bool {
        let reported_view = if node.key == self.local.key() {
            self.reported.view_of(node.key)
        } else {
            self.router.peer(node.key).and_then(|peer| peer.reported_view())
        };
        let is_pending = sent
            .get(&node.key)
            .is_some_and(|(fingerprint, at)| *fingerprint == view.fingerprint && at.elapsed() < CONFIRMATION_TIME);
        let audit = sent.get(&node.key).is_some_and(|(_, at)| at.elapsed() >= AUDIT_INTERVAL);
        audit || reported_view != Some(view.fingerprint) && !is_pending
    }

    /// Reports to a node all sessions that it stores; returns the node on success.
    async fn report_to(&self, node: &NodeInfo, view: &View) -> Option<NodeKey> {
        // Taken before the sessions are collected, see `ReportPart::before`.
        let before = (self.next_session)();
        let sessions = self.sessions.all();
        let of_node = sessions.iter().filter(|session| view.owner(&session.entry.user).key == node.key);
        let all: Vec<_> = of_node
            .map(|session| ReportedSession { entry: session.entry.clone(), registered: session.is_registered() })
            .collect();
        let parts = all.len().div_ceil(PART_LEN).max(1);
        for number in 0..parts {
            let part = ReportPart {
                node: self.local.key(),
                fingerprint: view.fingerprint,
                before,
                is_first: number == 0,
                is_last: number + 1 == parts,
            };
            let of_part: Vec<_> = all.iter().skip(number * PART_LEN).take(PART_LEN).cloned().collect();
            let sent = of_part.clone();
            let lost = if node.key == self.local.key() {
                self.handle_report(part, of_part, self.policy)
            } else {
                self.authority().report(part, of_part, self.policy).address(node.address).await.ok()?
            };
            for entry in lost {
                self.sessions.kick(entry.session, REPLACED);
            }
            // The report may have added sessions that ended while it was on its way.
            let ended = sent.into_iter().filter(|reported| !self.sessions.contains(reported.entry.session));
            for ReportedSession { entry, .. } in ended {
                self.release(entry).await;
            }
        }
        if let Some(peer) = self.router.peer(node.key) {
            peer.send_hello();
        }
        Some(node.key)
    }

    fn handle_report(&self, part: ReportPart, sessions: Vec<ReportedSession>, policy: Policy) -> Vec<SessionEntry> {
        let mut lost = Vec::new();
        let mut incomplete = self.incomplete();
        let reported = incomplete.entry(part.node).or_default();
        if part.is_first {
            reported.clear();
        }
        let mut shard = self.shard();
        for ReportedSession { entry, registered } in sessions {
            reported.insert(entry.session);
            if !registered {
                continue;
            }
            match shard.restore(entry.clone(), entry.policy(policy)) {
                Ok(replaced) => self.terminator.terminate(replaced, REPLACED),
                Err(_) => lost.push(entry),
            }
        }
        if part.is_last {
            shard.retain_of(part.node, |entry| reported.contains(&entry.session) || entry.session > part.before);
            incomplete.remove(&part.node);
            self.reported.set(part.node, part.fingerprint);
        }
        lost
    }

    /// Returns the sessions of these users in this node's shard.
    fn lookup_here(&self, users: &[String]) -> Vec<LookupResult> {
        let view = self.router.view();
        let all_reported = view.nodes.iter().all(|node| self.reported.view_of(node.key) == Some(view.fingerprint));
        let shard = self.shard();
        let result = |user: &String| {
            let alive = shard.sessions(user).iter().filter(|entry| view.node(entry.node).is_some());
            let entries = alive.cloned().collect();
            if all_reported && view.owner(user).key == self.local.key() {
                LookupResult::Complete(entries)
            } else {
                LookupResult::Partial(entries)
            }
        };
        users.iter().map(result).collect()
    }

    /// Registers a session here, or at the node that stores the user's sessions.
    async fn try_claim(&self, hops: Hops, entry: SessionEntry, policy: Policy) -> Result<(), ClaimError> {
        let unavailable = |message: String| Err(ClaimError::Unavailable(message));
        let Some(view) = self.router.majority_view() else {
            return unavailable("this node is not connected to a majority of the nodes".to_owned());
        };
        let owner = view.owner(&entry.user);
        if owner.key == self.local.key() {
            let replaced = self.shard().claim(entry, policy)?;
            self.terminator.terminate(replaced, REPLACED);
            return Ok(());
        }
        let Some(hops) = hops.next() else {
            return unavailable("the nodes have different views of the cluster".to_owned());
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

    fn incomplete(&self) -> MutexGuard<'_, HashMap<NodeKey, HashSet<SessionId>>> {
        self.incomplete.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self) -> MutexGuard<'_, Shard> {
        self.shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directory for EmbeddedDirectory {
    fn claim(&self, entry: SessionEntry) -> BoxFuture<'_, Result<(), ClaimError>> {
        Box::pin(async move {
            let policy = entry.policy(self.policy);
            let started = Instant::now();
            loop {
                let owner = self.router.view().owner(&entry.user).key;
                let outcome = self.try_claim(Hops::NONE, entry.clone(), policy).await;
                let retry = match &outcome {
                    Ok(()) => {
                        self.sessions.set_registered(entry.session);
                        // A new owner may have received this node's report before the session was registered.
                        self.router.view().owner(&entry.user).key != owner
                    }
                    Err(ClaimError::Unavailable(_)) => true,
                    Err(_) => false,
                };
                if !retry || started.elapsed() >= CLAIM_TIME {
                    return outcome;
                }
                sleep(CLAIM_PAUSE).await;
            }
        })
    }

    fn release(&self, entry: SessionEntry) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let view = self.router.view();
            let owner = view.owner(&entry.user);
            self.shard().release(&entry);
            if owner.key != self.local.key() {
                // A lost release is repaired by the next report, or by the first failed delivery to the session.
                let _ = self.authority().release(entry).address(owner.address).await;
            }
        })
    }

    fn lookup(&self, users: Vec<String>) -> BoxFuture<'_, Vec<LookupResult>> {
        Box::pin(async move {
            let view = self.router.view();
            let mut by_owner = HashMap::<NodeKey, (&NodeInfo, Vec<usize>)>::new();
            for (index, user) in users.iter().enumerate() {
                let owner = view.owner(user);
                by_owner.entry(owner.key).or_insert((owner, Vec::new())).1.push(index);
            }
            let lookups = by_owner.into_values().map(async |(owner, indices)| {
                let users: Vec<_> = indices.iter().map(|index| users[*index].clone()).collect();
                let results = if owner.key == self.local.key() {
                    self.lookup_here(&users)
                } else {
                    self.authority().lookup(users).address(owner.address).await.unwrap_or_default()
                };
                (indices, results)
            });
            let mut all = vec![LookupResult::Partial(Vec::new()); users.len()];
            for (indices, results) in join_all(lookups).await {
                for (index, result) in indices.into_iter().zip(results) {
                    all[index] = result;
                }
            }
            all
        })
    }

    /// Removes the sessions of lost nodes, and reports this node's sessions to the nodes that store them.
    fn run(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut views = self.router.watch();
            let mut sent = HashMap::<NodeKey, (u64, Instant)>::new();
            loop {
                let view = Arc::clone(&views.borrow_and_update());
                self.shard().retain(|entry| view.node(entry.node).is_some());
                self.reported.retain(&view);
                self.incomplete().retain(|node, _| view.node(*node).is_some());
                sent.retain(|node, _| view.node(*node).is_some());
                let due = view.nodes.iter().filter(|node| self.is_report_due(node, &view, &sent));
                let reports = join_all(due.map(|node| self.report_to(node, &view))).await;
                for node in reports.into_iter().flatten() {
                    sent.insert(node, (view.fingerprint, Instant::now()));
                }
                // A periodic check finds nodes that have lost a report.
                let _ = timeout(CHECK_INTERVAL, views.changed()).await;
            }
        })
    }
}

impl Authority for AuthorityService {
    async fn claim(&self, hops: Hops, entry: SessionEntry, policy: Policy) -> Result<(), ClaimError> {
        self.0.try_claim(hops, entry, policy).await
    }

    async fn release(&self, entry: SessionEntry) {
        self.0.shard().release(&entry);
    }

    async fn lookup(&self, users: Vec<String>) -> Vec<LookupResult> {
        self.0.lookup_here(&users)
    }

    async fn report(&self, part: ReportPart, sessions: Vec<ReportedSession>, policy: Policy) -> Vec<SessionEntry> {
        self.0.handle_report(part, sessions, policy)
    }
}

/// The maximum number of sessions in one part of a report.
const PART_LEN: usize = 2000;
/// The interval at which the node checks whether reports are due.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The time in which a node confirms a report by its answer to a hello.
const CONFIRMATION_TIME: Duration = Duration::from_secs(1);
