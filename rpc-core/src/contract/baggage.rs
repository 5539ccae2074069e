//! The metadata that the calls of a handler inherit: trace context and baggage.

/// The baggage key of the tag of a call.
pub(super) const TAG: &str = "msnb-tag";

/// The prefix of the metadata keys of baggage.
const PREFIX: &str = "baggage-";

/// The metadata keys of the W3C trace context and of W3C baggage.
const W3C_KEYS: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// Returns the metadata key of a baggage key.
pub(super) fn metadata_key(key: &str) -> String {
    format!("{PREFIX}{key}")
}

/// Returns whether the calls of a handler inherit the entries with this metadata key.
pub(super) fn is_inherited(metadata_key: &str) -> bool {
    metadata_key.starts_with(PREFIX) || W3C_KEYS.contains(&metadata_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trace_and_baggage_are_inherited() {
        for key in ["traceparent", "tracestate", "baggage", "baggage-tenant", &metadata_key("tenant")] {
            assert!(is_inherited(key), "{key}");
        }
        for key in ["tenant", "traceparent2", "baggages", "x-baggage-tenant", "token"] {
            assert!(!is_inherited(key), "{key}");
        }
    }
}
