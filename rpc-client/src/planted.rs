//! [`Bug`]: deliberate bugs, which show that the tests detect them.
//!
//! Only the feature `planted-bugs`, which serves msnb's own tests, compiles them in.

/// A deliberate bug of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// All services share the provider list of the first one.
    OneListForAllServices,
    /// The client never picks the last provider of a list.
    LastProviderNeverChosen,
    /// The pool removes an endpoint under another key than it inserted it.
    EvictionKeyDiffers,
    /// The watchdog makes one connect attempt too many.
    ThirteenthAttempt,
    /// A bare connect counts as a proof that the peer is alive.
    AttemptsResetByConnect,
    /// A second reference to an address opens a second connection.
    TwoConnectsForOneAddress,
    /// A watchdog that ends removes whichever endpoint the pool has at its address.
    FreshChannelRemoved,
    /// A closed connection does not end its calls in flight.
    PendingNotFailedOnClose,
    /// The next call reuses the id of a call that timed out.
    TimedOutIdReused,
    /// A call receives any answer for its slot, whatever the generation.
    AnswerToAnotherCall,
}

#[cfg(feature = "planted-bugs")]
mod chosen {
    use std::sync::{Mutex, PoisonError};

    use super::Bug;

    static CHOSEN: Mutex<Option<Bug>> = Mutex::new(None);

    /// Activates a bug in all clients of this process, or none.
    pub fn plant(bug: Option<Bug>) {
        *CHOSEN.lock().unwrap_or_else(PoisonError::into_inner) = bug;
    }

    pub(crate) fn planted(bug: Bug) -> bool {
        *CHOSEN.lock().unwrap_or_else(PoisonError::into_inner) == Some(bug)
    }

    impl Bug {
        /// All bugs.
        pub const ALL: [Self; 10] = [
            Self::OneListForAllServices,
            Self::LastProviderNeverChosen,
            Self::EvictionKeyDiffers,
            Self::ThirteenthAttempt,
            Self::AttemptsResetByConnect,
            Self::TwoConnectsForOneAddress,
            Self::FreshChannelRemoved,
            Self::PendingNotFailedOnClose,
            Self::TimedOutIdReused,
            Self::AnswerToAnotherCall,
        ];
    }
}

#[cfg(feature = "planted-bugs")]
pub use chosen::plant;
#[cfg(feature = "planted-bugs")]
pub(crate) use chosen::planted;

/// Returns whether this bug is active.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}
