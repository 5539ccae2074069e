//! [`DirectoryLease`]: the lease of this node in the directory.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rpc_core::contained;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{ClaimError, Directory, DirectoryError, Policy, REPLACED, Renewal, SessionEntry};
use crate::{
    boot_clock::BootInstant,
    identity::{NodeId, SessionId},
    session::{local_sessions::LocalSessions, resync::ResyncNotifier},
};

/// The lease of this node in the directory, and the sessions that the directory keeps for it.
///
/// The node renews the lease. When a renewal reports that the directory has lost entries, the node restores its
/// sessions; when the lease expires, it closes them.
pub(crate) struct DirectoryLease {
    node: NodeId,
    directory: Arc<dyn Directory>,
    sessions: Arc<LocalSessions>,
    resync: Arc<ResyncNotifier>,
    policy: Policy,
    /// The interval of renewals.
    beat: Duration,
    lease: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// The start of the last successful renewal.
    renewed: Option<BootInstant>,
    /// The incarnation of the directory in which all sessions are registered.
    incarnation: Option<u64>,
    /// Counts how often the directory may have lost entries.
    losses: u64,
    /// Whether the directory has answered the last renewal.
    answers: bool,
}

impl DirectoryLease {
    pub(crate) fn new(
        node: NodeId,
        directory: Arc<dyn Directory>,
        sessions: Arc<LocalSessions>,
        resync: Arc<ResyncNotifier>,
        policy: Policy,
        (beat, lease): (Duration, Duration),
    ) -> Self {
        Self { node, directory, sessions, resync, policy, beat, lease, state: Mutex::default() }
    }

    /// Returns whether the node holds the lease.
    pub(crate) fn is_held(&self) -> bool {
        self.state().renewed.is_some_and(|renewed| renewed.elapsed() < self.lease)
    }

    /// Returns whether the directory has answered the last renewal of the lease.
    pub(crate) fn answers(&self) -> bool {
        self.state().answers
    }

    /// Registers a session of this node, and returns the sessions that it replaces.
    ///
    /// Retries for up to [`CLAIM_TIME`] while the directory does not answer or the node does not hold its lease.
    pub(crate) async fn claim(&self, entry: &SessionEntry) -> Result<Vec<SessionEntry>, ClaimError> {
        let started = BootInstant::now();
        loop {
            let losses = self.state().losses;
            let outcome = self.try_claim(entry).await;
            let retry = match &outcome {
                Ok(_) => {
                    self.sessions.set_registered(entry.session);
                    // The node may have restored its sessions before this one was registered.
                    self.state().losses != losses
                }
                Err(ClaimError::Rejected(_)) => false,
                Err(ClaimError::NoLease | ClaimError::Unavailable(_)) => true,
            };
            if !retry {
                return outcome;
            }
            if started.elapsed() >= CLAIM_TIME {
                let unavailable = "the directory loses sessions at present".to_owned();
                return outcome.and(Err(ClaimError::Unavailable(unavailable)));
            }
            if outcome.is_err() {
                sleep(CLAIM_PAUSE).await;
            }
        }
    }

    /// Removes a session that has ended.
    pub(crate) async fn release(&self, entry: SessionEntry) {
        // An entry that stays after a failure is removed by the next login of the device, or with the lease.
        let _ = self.directory.release(vec![entry]).await;
    }

    /// Renews the lease until dropped.
    pub(crate) async fn run(&self) {
        loop {
            let started = BootInstant::now();
            let renewal = timeout(self.lease / 3, self.directory.renew(self.node, self.lease)).await;
            self.state().answers = matches!(renewal, Ok(Ok(_)));
            let pause = match renewal {
                Ok(Ok(renewal)) => match self.handle_renewal(started, renewal).await {
                    Ok(()) => self.beat,
                    Err(error) => {
                        contained(|| warn!(%error, "registering the sessions of this node again failed"));
                        self.beat / 6
                    }
                },
                _ => self.beat / 6,
            };
            let held = self.close_if_expired();
            sleep(if held { pause } else { self.beat / 6 }).await;
        }
    }

    /// Ends the lease.
    pub(crate) async fn leave(&self) {
        // After a failure the lease expires.
        let _ = timeout(self.lease, self.directory.leave(self.node)).await;
    }

    async fn try_claim(&self, entry: &SessionEntry) -> Result<Vec<SessionEntry>, ClaimError> {
        if !self.is_held() {
            return Err(ClaimError::NoLease);
        }
        match timeout(self.lease / 3, self.directory.claim(entry.clone(), self.policy)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ClaimError::Unavailable("the directory does not answer".to_owned())),
        }
    }

    async fn handle_renewal(&self, started: BootInstant, renewal: Renewal) -> Result<(), DirectoryError> {
        let (is_first, is_lost) = {
            let mut state = self.state();
            let is_first = state.incarnation.is_none();
            // The answer to an earlier renewal, which acquired the lease, may have been lost.
            let has_lapsed = state.renewed.is_none_or(|renewed| renewed.elapsed() >= self.lease);
            let is_lost = renewal.acquired || has_lapsed || state.incarnation != Some(renewal.incarnation);
            if is_lost {
                // Until the sessions are restored, the next renewal counts as a loss again.
                (state.incarnation, state.losses) = (None, state.losses + 1);
            }
            state.renewed = Some(started);
            (is_first, is_lost)
        };
        let ended = renewal.replaced.into_iter().filter(|session| !self.sessions.kick(*session, REPLACED));
        self.forget_replaced(ended.collect()).await;
        if is_lost {
            let count = self.restore().await?;
            self.state().incarnation = Some(renewal.incarnation);
            if count > 0 || !is_first {
                contained(|| {
                    info!(sessions = count, "all sessions of this node are registered in the directory again")
                });
                // While entries were missing, other nodes may not have delivered to these sessions.
                self.resync.request();
            }
        }
        Ok(())
    }

    /// Removes replaced sessions that have ended from the directory's list.
    async fn forget_replaced(&self, ended: Vec<SessionId>) {
        let entry = |session| {
            let (user, device, platform) = (String::new(), String::new(), String::new());
            SessionEntry { user, device, platform, node: self.node, session }
        };
        if !ended.is_empty() {
            // The next renewal lists those that stay after a failure.
            let released = self.directory.release(ended.into_iter().map(entry).collect());
            let _ = timeout(self.lease / 3, released).await;
        }
    }

    /// Registers all sessions again and ends those that lose; returns the number of all.
    async fn restore(&self) -> Result<usize, DirectoryError> {
        let entries = self.sessions.registered();
        let mut renewed = BootInstant::now();
        for part in entries.chunks(RESTORED_AT_ONCE) {
            if renewed.elapsed() >= self.beat {
                renewed = BootInstant::now();
                self.directory.renew(self.node, self.lease).await?;
                self.state().renewed = Some(renewed);
            }
            for session in self.directory.restore(self.node, part.to_vec(), self.policy).await? {
                self.sessions.kick(session, REPLACED);
            }
            // A session may have ended, and been released, before it was restored.
            let ended: Vec<_> = part.iter().filter(|entry| !self.sessions.contains(entry.session)).cloned().collect();
            if !ended.is_empty() {
                self.directory.release(ended).await?;
            }
        }
        Ok(entries.len())
    }

    /// Closes all sessions if the lease has expired, after which other nodes may accept logins of the same devices;
    /// returns whether the node holds the lease.
    fn close_if_expired(&self) -> bool {
        if self.is_held() {
            return true;
        }
        if self.state().renewed.take().is_some() {
            let sessions = self.sessions.len();
            contained(
                || warn!(sessions, lease = ?self.lease, "the lease in the directory has expired; closing all sessions"),
            );
        }
        self.sessions.close_all();
        false
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time for which a failing claim is retried.
const CLAIM_TIME: Duration = Duration::from_secs(5);
/// The pause between two attempts of a claim.
const CLAIM_PAUSE: Duration = Duration::from_millis(200);
/// The number of sessions that one call restores.
const RESTORED_AT_ONCE: usize = 1000;
