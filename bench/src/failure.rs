//! [`Failure`]: the error type of the tools.

/// The error type of the tools, which only print errors.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
