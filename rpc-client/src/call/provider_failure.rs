//! [`is_provider_failure`]: whether the provider is at fault for the end of an attempt.

use rpc_core::{Code, Delivery, Error, Phase};

/// Returns whether an attempt failed because of its provider, which other providers may not share.
///
/// - A server answered `Unavailable`, `Internal`, `Unknown` or `DataLoss`, or exceeded the deadline.
/// - The request was written, and no answer arrived by the deadline.
///
/// A lost connection does not count, because the watchdog handles it; nor does a rejection with a retry-after, which
/// starts a cooldown.
pub(super) fn is_provider_failure(error: &Error) -> bool {
    let starts_cooldown = error.retry_after().is_some() && error.delivery() == Delivery::NotExecuted;
    if error.phase() != Some(Phase::Wait) || starts_cooldown {
        return false;
    }
    match error.code() {
        Code::DeadlineExceeded => error.delivery() != Delivery::NotExecuted,
        Code::Unavailable | Code::Internal | Code::Unknown | Code::DataLoss => error.delivery() != Delivery::Unknown,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_faults_of_the_provider_count() {
        let create = [
            |code| Error::answered(code, "").with_phase(Phase::Wait),
            |code| Error::not_executed(code, "").with_phase(Phase::Wait),
            |code| Error::unknown(code, "").with_phase(Phase::Wait),
        ];
        let counts = |code| create.map(|create| is_provider_failure(&create(code)));
        for code in [Code::Unavailable, Code::Internal, Code::Unknown, Code::DataLoss] {
            assert_eq!(counts(code), [true, true, false], "{code}");
            let later = Error::not_executed(code, "").with_phase(Phase::Wait).with_retry_after(Duration::ZERO);
            assert!(!is_provider_failure(&later), "{code}");
        }
        assert_eq!(counts(Code::DeadlineExceeded), [true, false, true]);
        for code in [Code::InvalidArgument, Code::NotFound, Code::ResourceExhausted, Code::Unimplemented, Code::Aborted]
        {
            assert_eq!(counts(code), [false; 3], "{code}");
        }
        let unsent = Error::unknown(Code::DeadlineExceeded, "").with_phase(Phase::Send);
        assert!(!is_provider_failure(&unsent), "the request was not written");
    }
}
