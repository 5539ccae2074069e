//! The headers that both ends of this crate know.

#[cfg(feature = "server")]
use std::time::Duration;

/// The header with the time that the caller waits, in milliseconds.
pub(crate) const TIMEOUT: &str = "request-timeout-ms";
/// The prefix of headers with metadata.
pub(crate) const METADATA: &str = "msnb-metadata-";
/// The header with the key of a once call.
pub(crate) const KEY: &str = "idempotency-key";
/// The header of the service's own error, whose body is JSON of the service.
pub(crate) const SERVICE_ERROR: &str = "msnb-service-error";
/// The headers that are metadata under their own names.
pub(crate) const TRACE: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// Parses the value of `Request-Timeout-Ms`.
#[cfg(feature = "server")]
pub(crate) fn timeout_ms(text: &str) -> Option<Duration> {
    let is_number = text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).map(Duration::from_millis)
}

#[cfg(all(test, feature = "server"))]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_units_and_few_digits() {
        assert_eq!(timeout_ms("20"), Some(Duration::from_millis(20)));
        for bad in ["", "+5", "-5", "1.5", "99999999999"] {
            assert_eq!(timeout_ms(bad), None, "{bad}");
        }
    }
}
