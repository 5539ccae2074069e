//! [`WriteError`]: the errors of the store.

use super::super::StoreError;

/// The error of a write inside a transaction.
pub(super) enum WriteError {
    /// The request is rejected, and no table was changed.
    Rejected(StoreError),
    /// The engine failed, so the transaction is rolled back.
    Failed(StoreError),
}

impl<E: std::error::Error> From<E> for WriteError
where
    redb::Error: From<E>,
{
    fn from(error: E) -> Self {
        Self::Failed(failed(error))
    }
}

pub(super) fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("the store failed: {error}"))
}

impl From<StoreError> for WriteError {
    fn from(failure: StoreError) -> Self {
        Self::Failed(failure)
    }
}
