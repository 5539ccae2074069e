//! [`problem_of`]: the body of an error that is not the service's own.

use rpc_core::Error;

use crate::{problem::Problem, status};

/// Returns the body of an error that is not the service's own.
pub(super) fn problem_of(error: &Error) -> Problem {
    let (code, delivery) = (error.code(), error.delivery());
    let mut problem = Problem::new(status::of_error(code, delivery), code, delivery, error.message());
    problem.retry_after_ms = error.retry_after().map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    problem
}
