//! [`TraceError`]: the failure of one pass.

use std::fmt;

use serde::de;

/// The failure of one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TraceError {
    /// A struct needs this field.
    Missing(&'static str),
    /// A struct received this field under two names.
    Repeated(&'static str),
    /// A struct received a field that it does not know.
    Unknown,
    /// Anything else.
    Other,
}

impl de::Error for TraceError {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Other
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::Repeated(field)
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self::Unknown
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the pass of the tracer ended")
    }
}

impl std::error::Error for TraceError {}
