//! [`Outcome`]: the result of statements in a transaction.

use super::super::StoreError;
use crate::sql::Failure;

/// The result of an operation in a transaction.
pub(super) type Outcome<T> = Result<T, Failure<StoreError>>;
