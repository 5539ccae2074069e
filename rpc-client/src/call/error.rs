//! The errors that several steps of a call create.

use rpc_core::{Code, Error, MethodInfo, Phase, Status, head::Route};

/// The message of every error that a deadline causes.
pub(super) const DEADLINE_PASSED: &str = "the deadline passed";

/// Returns the error of a call on a closed client.
pub(super) fn client_closed() -> Error {
    Error::not_executed(Code::Unavailable, "the client is closed").with_phase(Phase::Resolve)
}

/// Returns the error of a call whose deadline passed before its request was written.
pub(super) fn deadline_passed() -> Error {
    Error::not_executed(Code::DeadlineExceeded, DEADLINE_PASSED).with_phase(Phase::Send)
}

/// Returns the error of a call whose options or arguments cannot be sent.
pub(super) fn invalid_request(status: Status) -> Error {
    Error::not_executed(status.code(), status.message().to_owned()).with_phase(Phase::Send)
}

/// Checks that the route of a method fits into the head of a request.
pub(super) fn check_route(method: &MethodInfo) -> Result<(), Error> {
    let (length, limit) = (method.route().len(), Route::MAX_LEN);
    if length <= limit {
        return Ok(());
    }
    let message = format!("route is {length} bytes, limit is {limit} (Route::MAX_LEN)");
    Err(invalid_request(Status::new(Code::InvalidArgument, message)))
}

/// Joins the first [`MAX_NAMED`] parts and states the number of the others, which it does not format.
pub(super) fn join_parts(mut parts: impl ExactSizeIterator<Item = String>) -> String {
    let named: Vec<String> = parts.by_ref().take(MAX_NAMED).collect();
    match parts.len() {
        0 => named.join("; "),
        more => format!("{} and {more} more", named.join("; ")),
    }
}

/// The largest number of providers that an error names.
const MAX_NAMED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_names_at_most_eight_parts() {
        let parts = |last: u8| (0..last).map(|number| (number + 1).to_string());
        assert_eq!(join_parts(parts(8)), "1; 2; 3; 4; 5; 6; 7; 8");
        assert_eq!(join_parts(parts(9)), "1; 2; 3; 4; 5; 6; 7; 8 and 1 more");
    }
}
