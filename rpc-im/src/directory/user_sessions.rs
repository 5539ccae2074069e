//! [`Devices`]: the sessions of one user, and which login stands: a state machine.

use super::{Conflict, Entry, Policy, Scope};

/// The sessions of one user, at most [`MAX`](Self::MAX).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Devices(Vec<Entry>);

/// Why a session does not get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another one stands.
    Taken,
    /// The user has as many as there may be.
    TooMany,
}

impl Devices {
    /// Sessions that one user has at most: a message for the user costs as much as there are.
    pub(crate) const MAX: usize = 64;

    /// Those that are known.
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        Self(entries)
    }

    /// Enters a new session; gives those that it replaces.
    pub(crate) fn claim(&mut self, entry: Entry, policy: Policy) -> Result<Vec<Entry>, Refusal> {
        self.enter(entry, policy.scope, |other, entry| match policy.conflict {
            Conflict::Replace => false,
            Conflict::Refuse => other.device != entry.device,
            Conflict::Hold => true,
        })
    }

    /// Enters a session that its node says to have since before, unless another stands now; gives those that it replaces.
    ///
    /// Of one device, and where the policy is to replace, the later login stands, in whatever order they are entered. Else the one
    /// stands that is here: it was let in while nothing was known of the other.
    pub(crate) fn restore(&mut self, entry: Entry, policy: Policy) -> Result<Vec<Entry>, Refusal> {
        self.enter(entry, policy.scope, |other, entry| match policy.conflict {
            Conflict::Refuse if other.device != entry.device => true,
            Conflict::Replace | Conflict::Refuse => other.session > entry.session,
            Conflict::Hold => true,
        })
    }

    /// Takes exactly this session out.
    pub(crate) fn release(&mut self, entry: &Entry) {
        self.0.retain(|other| other != entry);
    }

    /// Takes out whatever is not to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        self.0.retain(keep);
    }

    pub(crate) fn as_slice(&self) -> &[Entry] {
        &self.0
    }

    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.0
    }

    fn enter(
        &mut self,
        entry: Entry,
        scope: Scope,
        stands: impl Fn(&Entry, &Entry) -> bool,
    ) -> Result<Vec<Entry>, Refusal> {
        if self.0.contains(&entry) {
            return Ok(Vec::new());
        }
        if self.0.iter().any(|other| exclude(scope, other, &entry) && stands(other, &entry)) {
            return Err(Refusal::Taken);
        }
        let replaced: Vec<_> = self.0.extract_if(.., |other| exclude(scope, other, &entry)).collect();
        if replaced.is_empty() && self.0.len() >= Self::MAX {
            return Err(Refusal::TooMany);
        }
        self.0.push(entry);
        Ok(replaced)
    }
}

/// Whether a user may not have both.
pub(super) fn exclude(scope: Scope, one: &Entry, other: &Entry) -> bool {
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
    use crate::identity::{Epoch, NodeId, NodeKey, SessionId};

    pub(crate) fn entry(device: &str, platform: &str, session: u64) -> Entry {
        let node = NodeKey { id: NodeId::new(session as u16).unwrap(), epoch: Epoch(1) };
        let (user, device, platform) = ("ann".to_owned(), device.to_owned(), platform.to_owned());
        Entry { user, device, platform, node, session: SessionId(session) }
    }

    fn policy(scope: Scope, conflict: Conflict) -> Policy {
        Policy { scope, conflict }
    }

    #[test]
    fn each_scope_excludes_what_it_says() {
        let (phone, pad, browser) = (entry("p", "ios", 1), entry("q", "ios", 2), entry("b", "web", 3));
        for (scope, expected) in
            [(Scope::AllDevices, vec![1, 2, 3]), (Scope::OnePerPlatform, vec![2, 3]), (Scope::Single, vec![3])]
        {
            let mut devices = Devices::default();
            for entry in [&phone, &pad, &browser] {
                devices.claim(entry.clone(), policy(scope, Conflict::Replace)).unwrap();
            }
            let left: Vec<_> = devices.as_slice().iter().map(|entry| entry.session.0).collect();
            assert_eq!(left, expected, "{scope:?}");
        }
    }

    #[test]
    fn to_refuse_keeps_the_earlier_one_but_a_device_replaces_itself() {
        let refuse = policy(Scope::Single, Conflict::Refuse);
        let mut devices = Devices::default();
        assert_eq!(devices.claim(entry("p", "ios", 1), refuse), Ok(vec![]));
        assert_eq!(devices.claim(entry("b", "web", 2), refuse), Err(Refusal::Taken));
        assert_eq!(devices.claim(entry("p", "ios", 3), refuse), Ok(vec![entry("p", "ios", 1)]));
    }

    #[test]
    fn a_held_place_is_free_again_once_it_is_released() {
        let hold = policy(Scope::AllDevices, Conflict::Hold);
        let mut devices = Devices::default();
        let (first, second) = (entry("app", "", 1), entry("app", "", 2));
        assert!(devices.claim(first.clone(), hold).is_ok());
        assert_eq!(devices.claim(first.clone(), hold), Ok(vec![]), "asked twice it is the same");
        assert_eq!(devices.claim(second.clone(), hold), Err(Refusal::Taken));
        assert_eq!(devices.restore(second.clone(), hold), Err(Refusal::Taken));
        devices.release(&first);
        assert!(devices.claim(second, hold).is_ok());
    }

    #[test]
    fn a_late_release_leaves_the_newer_login() {
        let mut devices = Devices::default();
        devices.claim(entry("p", "ios", 1), Policy::default()).unwrap();
        devices.claim(entry("p", "ios", 2), Policy::default()).unwrap();
        devices.release(&entry("p", "ios", 1));
        assert_eq!(devices.as_slice(), [entry("p", "ios", 2)]);
        devices.release(&entry("p", "ios", 2));
        assert!(devices.as_slice().is_empty());
    }

    #[test]
    fn where_logins_replace_the_later_one_is_restored_in_any_order() {
        for (scope, other) in [(Scope::Single, "b"), (Scope::AllDevices, "p")] {
            let policy = policy(scope, Conflict::Replace);
            let (earlier, later) = (entry("p", "ios", 1), entry(other, "ios", 2));
            for order in [[&earlier, &later], [&later, &earlier]] {
                let mut devices = Devices::default();
                for entry in order {
                    let _ = devices.restore(entry.clone(), policy);
                }
                assert_eq!(devices.as_slice(), std::slice::from_ref(&later), "{scope:?}");
            }
        }
    }

    #[test]
    fn where_logins_are_refused_the_one_that_is_there_is_not_restored_away() {
        let refuse = policy(Scope::Single, Conflict::Refuse);
        let (earlier, later) = (entry("p", "ios", 1), entry("b", "web", 2));
        for order in [[&earlier, &later], [&later, &earlier]] {
            let mut devices = Devices::new(vec![order[0].clone()]);
            assert_eq!(devices.restore(order[1].clone(), refuse), Err(Refusal::Taken));
            assert_eq!(devices.as_slice(), std::slice::from_ref(order[0]));
        }
    }

    #[test]
    fn a_user_has_so_many_sessions_and_not_one_more() {
        let mut devices = Devices::default();
        let nth = |number: usize| entry(&number.to_string(), "web", number as u64);
        for number in 0..Devices::MAX {
            devices.claim(nth(number), Policy::default()).unwrap();
        }
        assert_eq!(devices.claim(nth(Devices::MAX), Policy::default()), Err(Refusal::TooMany));
        let again = Entry { session: SessionId(1000), ..nth(3) };
        assert_eq!(devices.claim(again, Policy::default()), Ok(vec![nth(3)]), "a device that comes back is none more");
    }
}
