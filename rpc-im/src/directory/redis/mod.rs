//! [`RedisDirectory`]: the directory in a Redis that all nodes share.
//!
//! | key | what | for how long |
//! |---|---|---|
//! | `im:node:<id>` | epoch, address and connections of the node that has this number, and whether all its sessions are entered | a lease, which the node renews |
//! | `im:user:<id>` | device → node, epoch, session and platform | a day after the last login; a node enters its sessions anew every five minutes |
//! | `im:room:<channel>` | side → the same | the same |
//!
//! An entry counts while its node's lease lives, in that epoch. A node that could not renew its lease lets nobody in until it has, and
//! then enters all its sessions again; those that have lost to others meanwhile end. Each script and command is about one key.

mod fields;
mod lease;
mod leases;
mod server;
mod url;

pub(crate) use lease::Lease;
pub use url::RedisUrl;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    StreamExt as _,
    future::{join, try_join_all},
    stream,
};
use leases::{Leases, Standing};
use rpc_core::BoxFuture;
use server::{Away, Server};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::{
    AUDIT, CLAIM, ClaimError, Directory, Entry, Found, Policy, REPLACED,
    user_sessions::{Devices, Refusal, exclude},
};
use crate::{
    cluster::router::NodeRouter, session::local_sessions::Sessions, session::resync::Doubt, session::terminator::Kicks,
};

/// The directory in a Redis that all nodes share.
pub(crate) struct RedisDirectory {
    lease: Lease,
    leases: Leases,
    router: Arc<NodeRouter>,
    sessions: Arc<Sessions>,
    kicks: Arc<Kicks>,
    doubt: Arc<Doubt>,
    policy: Policy,
    /// What Redis is still to forget.
    releases: Mutex<VecDeque<Entry>>,
}

/// How a session is entered.
#[derive(Debug, Clone, Copy)]
enum How {
    /// It is new.
    Claim,
    /// It was here before.
    Restore,
}

/// Why a session was not entered.
enum Failure {
    Refused(Refusal),
    Away,
    /// Others enter sessions of the same user all the time.
    Contended,
}

impl RedisDirectory {
    pub(crate) fn new(
        lease: Lease,
        router: Arc<NodeRouter>,
        sessions: Arc<Sessions>,
        kicks: Arc<Kicks>,
        doubt: Arc<Doubt>,
        policy: Policy,
    ) -> Self {
        let leases = Leases::new(Arc::clone(lease.server()));
        Self { lease, leases, router, sessions, kicks, doubt, policy, releases: Mutex::default() }
    }

    /// Enters a session: reads what the user has, decides, and writes it if nobody has written meanwhile. Gives what it replaces.
    async fn enter(&self, entry: &Entry, how: How) -> Result<Vec<Entry>, Failure> {
        let policy = entry.policy(self.policy);
        for _ in 0..WRITES {
            let before = self.server().sessions(std::slice::from_ref(&entry.user)).await?.pop().unwrap_or_default();
            let entries = fields::read(&entry.user, &before);
            let standings = self.leases.standings(entries.iter().map(|entry| entry.node)).await?;
            let is_of = |standing, entry: &Entry| standings[&entry.node] == standing;
            let living = entries.iter().filter(|entry| is_of(Standing::Lives, entry)).cloned().collect();
            let mut devices = Devices::new(living);
            let mut replaced = match how {
                How::Claim => devices.claim(entry.clone(), policy),
                How::Restore => devices.restore(entry.clone(), policy),
            }
            .map_err(Failure::Refused)?;
            let mut after = devices.into_entries();
            // Who comes back finds its place if it is free, and is told if it is not.
            for absent in entries.iter().filter(|entry| is_of(Standing::Absent, entry)).cloned() {
                let list = if exclude(policy.scope, &absent, entry) { &mut replaced } else { &mut after };
                list.push(absent);
            }
            if self.server().swap(&entry.user, &before, &after).await? {
                return Ok(replaced);
            }
        }
        Err(Failure::Contended)
    }

    async fn try_claim(&self, entry: &Entry) -> Result<(), ClaimError> {
        let unavailable = |why: &str| Err(ClaimError::Unavailable(why.to_owned()));
        if !self.lease.is_held() {
            return unavailable("this node does not hold its lease in redis");
        }
        match self.enter(entry, How::Claim).await {
            Ok(replaced) => {
                self.kicks.kick(replaced, REPLACED);
                Ok(())
            }
            Err(Failure::Refused(refusal)) => Err(refusal.into()),
            Err(Failure::Away) => unavailable("redis does not answer"),
            Err(Failure::Contended) => unavailable("too many logins of the user at once"),
        }
    }

    /// Enters all sessions of this node again, and ends those that have lost to others.
    async fn restore_all(&self) -> Result<usize, Away> {
        let entries = self.sessions.entered();
        let count = entries.len();
        let mut restoring =
            std::pin::pin!(stream::iter(entries).map(|entry| self.restore(entry)).buffer_unordered(AT_ONCE));
        while let Some(outcome) = restoring.next().await {
            outcome?;
        }
        Ok(count)
    }

    async fn restore(&self, entry: Entry) -> Result<(), Away> {
        match self.enter(&entry, How::Restore).await {
            Ok(replaced) => self.kicks.kick(replaced, REPLACED),
            Err(Failure::Refused(_)) => drop(self.sessions.kick(entry.session, REPLACED)),
            // The next round finds it.
            Err(Failure::Contended) => {}
            Err(Failure::Away) => return Err(Away),
        }
        // One that has ended meanwhile was released before it was entered.
        if !self.sessions.has(entry.session) {
            self.forget(entry);
        }
        Ok(())
    }

    /// Sees to it that Redis forgets a session, now or when it is back.
    fn forget(&self, entry: Entry) {
        let mut releases = self.releases();
        if releases.len() < MAX_RELEASES {
            releases.push_back(entry);
        } else {
            warn!(
                "too many sessions have ended while redis is away; some are forgotten when they are looked for in vain"
            );
        }
    }

    /// Lets Redis forget what is to be forgotten. For one who does it.
    async fn forget_all(&self) -> Result<(), Away> {
        loop {
            let Some(entry) = self.releases().front().cloned() else { return Ok(()) };
            self.server().remove(&entry).await?;
            self.releases().pop_front();
        }
    }

    /// Enters the sessions whenever they may not be there, and forgets what is to be forgotten.
    async fn keep_entries(&self) {
        let mut restored = (self.lease.gap(), Instant::now());
        loop {
            let gap = self.lease.gap();
            if self.lease.is_held() {
                let is_due = restored.0 != gap || restored.1.elapsed() >= AUDIT;
                if is_due && let Ok(sessions) = self.restore_all().await {
                    if restored.0 != gap {
                        info!(sessions, "the sessions of this node are in redis again");
                        // While they were not, others may have found nobody here.
                        self.doubt.raise();
                    }
                    restored = (gap, Instant::now());
                    self.lease.set_whole(gap);
                }
                // What is left waits for the next round.
                let _ = self.forget_all().await;
            }
            let _ = timeout(LOOK, self.lease.changed()).await;
        }
    }

    /// Ends the sessions when another node has this one's number: nobody finds them any more.
    async fn end_when_refused(&self) {
        loop {
            self.lease.refused().await;
            self.sessions.close_all();
        }
    }

    /// Whether all nodes that live have all their sessions here, so that who is not here is nowhere.
    async fn is_whole(&self) -> Result<bool, Away> {
        if !self.lease.is_held() {
            return Ok(false);
        }
        self.leases.are_whole(&self.router.view().nodes.iter().map(|node| node.key).collect()).await
    }

    async fn try_lookup(&self, users: &[String]) -> Result<Vec<Found>, Away> {
        // Before it is read: a node that is whole now has had them there.
        let is_whole = self.is_whole().await?;
        let fields = self.server().sessions(users).await?;
        let read: Vec<_> = users.iter().zip(&fields).map(|(user, fields)| fields::read(user, fields)).collect();
        let standings = self.leases.standings(read.iter().flatten().map(|entry| entry.node)).await?;
        let over = read.iter().flatten().filter(|entry| standings[&entry.node] == Standing::Over);
        // Whoever finds it next tries again.
        let _ = try_join_all(over.map(|entry| self.server().remove(entry))).await;
        let found = read.into_iter().map(|mut entries| {
            entries.retain(|entry| standings[&entry.node] == Standing::Lives);
            if is_whole { Found::Known(entries) } else { Found::Unknown(entries) }
        });
        Ok(found.collect())
    }

    fn server(&self) -> &Server {
        self.lease.server()
    }

    fn releases(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.releases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directory for RedisDirectory {
    fn claim(&self, entry: Entry) -> BoxFuture<'_, Result<(), ClaimError>> {
        Box::pin(async move {
            let begun = Instant::now();
            loop {
                match self.try_claim(&entry).await {
                    Err(ClaimError::Unavailable(_)) if begun.elapsed() < CLAIM => sleep(BETWEEN_CLAIMS).await,
                    outcome => {
                        if outcome.is_ok() {
                            self.sessions.set_entered(entry.session);
                        }
                        return outcome;
                    }
                }
            }
        })
    }

    fn release(&self, entry: Entry) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if self.server().remove(&entry).await.is_err() {
                self.forget(entry);
            }
        })
    }

    fn lookup(&self, users: Vec<String>) -> BoxFuture<'_, Vec<Found>> {
        Box::pin(async move {
            let found = self.try_lookup(&users).await;
            found.unwrap_or_else(|Away| vec![Found::Unknown(Vec::new()); users.len()])
        })
    }

    fn run(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let keeping = join(self.lease.keep(&self.sessions), self.keep_entries());
            join(keeping, self.end_when_refused()).await;
        })
    }

    fn is_ready(&self) -> bool {
        self.lease.is_held()
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // If it cannot be said, the lease ends by itself.
            let _ = self.forget_all().await;
            self.lease.let_go().await;
        })
    }
}

impl From<Away> for Failure {
    fn from(Away: Away) -> Self {
        Self::Away
    }
}

/// How often an entry is written anew because another one was written meanwhile.
const WRITES: u32 = 16;
const BETWEEN_CLAIMS: Duration = Duration::from_millis(200);
/// Sessions that are entered at once.
const AT_ONCE: usize = 64;
/// Sessions that have ended and are not forgotten yet.
const MAX_RELEASES: usize = 65_536;
/// How often it is looked whether something is to be entered or forgotten.
const LOOK: Duration = Duration::from_millis(500);
