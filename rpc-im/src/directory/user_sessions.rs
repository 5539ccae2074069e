//! [`UserSessions`]: the sessions of one user, and the winner of a conflict. No I/O.

use serde::{Deserialize, Serialize};

use super::{
    entry::SessionEntry,
    policy::{Conflict, Policy, Scope},
};

/// The sessions of one user, at most [`MAX`](Self::MAX).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserSessions(Vec<SessionEntry>);

/// The reason why a session is not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ClaimRejection {
    /// Another session wins by the policy.
    #[error("another session is active")]
    Taken,
    /// The user has [`UserSessions::MAX`] sessions.
    #[error("the user has {} sessions, which is the maximum", UserSessions::MAX)]
    TooMany,
}

impl UserSessions {
    /// The maximum number of sessions of one user: each message is sent to all of them.
    pub const MAX: usize = 64;

    /// Creates the state from the known sessions.
    pub fn new(entries: Vec<SessionEntry>) -> Self {
        Self(entries)
    }

    /// Adds a new session; returns the sessions that it replaces.
    ///
    /// `policy` is the policy of users. A side of a pairing room replaces no other session, whatever the policy.
    ///
    /// # Errors
    ///
    /// See [`ClaimRejection`].
    pub fn claim(&mut self, entry: SessionEntry, policy: Policy) -> Result<Vec<SessionEntry>, ClaimRejection> {
        let policy = entry.policy(policy);
        self.add(entry, policy.scope, |other, entry| match policy.conflict {
            Conflict::Replace => false,
            Conflict::Refuse => other.device != entry.device,
            Conflict::Hold => true,
        })
    }

    /// Adds an earlier session again, unless another one wins; returns the sessions that it replaces.
    ///
    /// On one device, and with [`Conflict::Replace`], the later login wins, in any order of calls. Otherwise the known
    /// session wins, because the directory accepted it without knowledge of the restored one.
    ///
    /// # Errors
    ///
    /// See [`ClaimRejection`].
    pub fn restore(&mut self, entry: SessionEntry, policy: Policy) -> Result<Vec<SessionEntry>, ClaimRejection> {
        let policy = entry.policy(policy);
        self.add(entry, policy.scope, |other, entry| match policy.conflict {
            Conflict::Refuse if other.device != entry.device => true,
            Conflict::Replace | Conflict::Refuse => other.session > entry.session,
            Conflict::Hold => true,
        })
    }

    /// Removes exactly this session.
    pub fn release(&mut self, entry: &SessionEntry) {
        self.0.retain(|other| other != entry);
    }

    /// Removes the sessions for which `keep` returns false.
    pub(super) fn retain(&mut self, keep: impl Fn(&SessionEntry) -> bool) {
        self.0.retain(keep);
    }

    /// Returns the sessions.
    pub fn as_slice(&self) -> &[SessionEntry] {
        &self.0
    }

    /// Returns the sessions.
    pub fn into_entries(self) -> Vec<SessionEntry> {
        self.0
    }

    fn add(
        &mut self,
        entry: SessionEntry,
        scope: Scope,
        wins: impl Fn(&SessionEntry, &SessionEntry) -> bool,
    ) -> Result<Vec<SessionEntry>, ClaimRejection> {
        if self.0.contains(&entry) {
            return Ok(Vec::new());
        }
        if self.0.iter().any(|other| excludes(scope, other, &entry) && wins(other, &entry)) {
            return Err(ClaimRejection::Taken);
        }
        let replaced: Vec<_> = self.0.extract_if(.., |other| excludes(scope, other, &entry)).collect();
        if replaced.is_empty() && self.0.len() >= Self::MAX {
            return Err(ClaimRejection::TooMany);
        }
        self.0.push(entry);
        Ok(replaced)
    }
}

/// Returns whether a user may not have both sessions.
fn excludes(scope: Scope, one: &SessionEntry, other: &SessionEntry) -> bool {
    one.device == other.device
        || match scope {
            Scope::AllDevices => false,
            Scope::OnePerPlatform => one.platform == other.platform,
            Scope::Single => true,
        }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::identity::{NodeId, SessionId};

    pub(crate) fn entry(device: &str, platform: &str, session: u64) -> SessionEntry {
        let node = NodeId(session);
        let (user, device, platform) = ("ann".to_owned(), device.to_owned(), platform.to_owned());
        SessionEntry { user, device, platform, node, session: SessionId(session) }
    }

    fn policy(scope: Scope, conflict: Conflict) -> Policy {
        Policy { scope, conflict }
    }

    #[test]
    fn each_scope_excludes_its_logins() {
        let (phone, pad, browser) = (entry("p", "ios", 1), entry("q", "ios", 2), entry("b", "web", 3));
        for (scope, expected) in
            [(Scope::AllDevices, vec![1, 2, 3]), (Scope::OnePerPlatform, vec![2, 3]), (Scope::Single, vec![3])]
        {
            let mut sessions = UserSessions::default();
            for entry in [&phone, &pad, &browser] {
                sessions.claim(entry.clone(), policy(scope, Conflict::Replace)).unwrap();
            }
            let left: Vec<_> = sessions.as_slice().iter().map(|entry| entry.session.0).collect();
            assert_eq!(left, expected, "{scope:?}");
        }
    }

    #[test]
    fn refuse_keeps_the_earlier_login_of_another_device() {
        let refuse = policy(Scope::Single, Conflict::Refuse);
        let mut sessions = UserSessions::default();
        assert_eq!(sessions.claim(entry("p", "ios", 1), refuse), Ok(vec![]));
        assert_eq!(sessions.claim(entry("b", "web", 2), refuse), Err(ClaimRejection::Taken));
        assert_eq!(sessions.claim(entry("p", "ios", 3), refuse), Ok(vec![entry("p", "ios", 1)]));
    }

    #[test]
    fn hold_rejects_claims_until_release() {
        let hold = policy(Scope::AllDevices, Conflict::Hold);
        let mut sessions = UserSessions::default();
        let (first, second) = (entry("app", "", 1), entry("app", "", 2));
        assert!(sessions.claim(first.clone(), hold).is_ok());
        assert_eq!(sessions.claim(first.clone(), hold), Ok(vec![]), "a repeated claim changes nothing");
        assert_eq!(sessions.claim(second.clone(), hold), Err(ClaimRejection::Taken));
        assert_eq!(sessions.restore(second.clone(), hold), Err(ClaimRejection::Taken));
        sessions.release(&first);
        assert!(sessions.claim(second, hold).is_ok());
    }

    #[test]
    fn late_release_keeps_the_newer_login() {
        let mut sessions = UserSessions::default();
        sessions.claim(entry("p", "ios", 1), Policy::default()).unwrap();
        sessions.claim(entry("p", "ios", 2), Policy::default()).unwrap();
        sessions.release(&entry("p", "ios", 1));
        assert_eq!(sessions.as_slice(), [entry("p", "ios", 2)]);
        sessions.release(&entry("p", "ios", 2));
        assert!(sessions.as_slice().is_empty());
    }

    #[test]
    fn replace_restores_the_later_login_in_any_order() {
        for (scope, other) in [(Scope::Single, "b"), (Scope::AllDevices, "p")] {
            let policy = policy(scope, Conflict::Replace);
            let (earlier, later) = (entry("p", "ios", 1), entry(other, "ios", 2));
            for order in [[&earlier, &later], [&later, &earlier]] {
                let mut sessions = UserSessions::default();
                for entry in order {
                    let _ = sessions.restore(entry.clone(), policy);
                }
                assert_eq!(sessions.as_slice(), std::slice::from_ref(&later), "{scope:?}");
            }
        }
    }

    #[test]
    fn refuse_keeps_the_known_login_on_restore() {
        let refuse = policy(Scope::Single, Conflict::Refuse);
        let (earlier, later) = (entry("p", "ios", 1), entry("b", "web", 2));
        for order in [[&earlier, &later], [&later, &earlier]] {
            let mut sessions = UserSessions::new(vec![order[0].clone()]);
            assert_eq!(sessions.restore(order[1].clone(), refuse), Err(ClaimRejection::Taken));
            assert_eq!(sessions.as_slice(), std::slice::from_ref(order[0]));
        }
    }

    #[test]
    fn claim_rejects_sessions_above_the_maximum() {
        let mut sessions = UserSessions::default();
        let nth = |number: usize| entry(&number.to_string(), "web", number as u64);
        for number in 0..UserSessions::MAX {
            sessions.claim(nth(number), Policy::default()).unwrap();
        }
        assert_eq!(sessions.claim(nth(UserSessions::MAX), Policy::default()), Err(ClaimRejection::TooMany));
        let again = SessionEntry { session: SessionId(1000), ..nth(3) };
        assert_eq!(
            sessions.claim(again, Policy::default()),
            Ok(vec![nth(3)]),
            "a repeated login of a device replaces its session"
        );
    }
}
