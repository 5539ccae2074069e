//! [`Bug`]: mistakes that are made on purpose, to show that the tests find them.
//!
//! Without the feature `planted-bugs`, which is for msnb's own tests, none is ever made and nothing of this is compiled in.

/// A mistake that a client can be told to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The list of providers is not kept for each service: all use the first.
    OneListForAllServices,
    /// The last provider of a list is never chosen.
    LastProviderNeverChosen,
    /// An address is taken out of the channel cache under another key than it was put in.
    EvictionKeyDiffers,
    /// There is an attempt more than there may be.
    ThirteenthAttempt,
    /// A bare connect counts as a sign of life.
    AttemptsResetByConnect,
    /// Who lists an address again connects to it again.
    TwoConnectsForOneAddress,
    /// A watchdog that ends takes whatever stands at its address out of the cache.
    FreshChannelRemoved,
    /// Calls in flight are not told that their connection is over.
    PendingNotFailedOnClose,
    /// The id of a call that timed out is given to the next.
    TimedOutIdReused,
    /// An answer is given to whoever has its place in the table.
    AnswerToAnotherCall,
}

#[cfg(feature = "planted-bugs")]
mod chosen {
    use std::sync::{Mutex, PoisonError};

    use super::Bug;

    static CHOSEN: Mutex<Option<Bug>> = Mutex::new(None);

    /// Lets all clients of this process make a mistake, or none.
    pub fn plant(bug: Option<Bug>) {
        *CHOSEN.lock().unwrap_or_else(PoisonError::into_inner) = bug;
    }

    pub(crate) fn planted(bug: Bug) -> bool {
        *CHOSEN.lock().unwrap_or_else(PoisonError::into_inner) == Some(bug)
    }

    impl Bug {
        /// All of them.
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

/// Whether this mistake is to be made.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}
