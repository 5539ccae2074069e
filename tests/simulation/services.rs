//! The services and kinds of methods that a simulated call can have.

use serde::{Deserialize, Serialize};

/// One of the two simulated services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SimService {
    /// `sim.Ledger`.
    Ledger,
    /// `sim.Archive`.
    Archive,
}

/// The service's own error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServiceError {
    /// Number of the call.
    pub(crate) nonce: u64,
}

/// Kind of a method, which determines how often its calls may execute.
///
/// A new kind of method that executes at most once although the client retries it needs a variant here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// May execute repeatedly; the client retries it.
    Idempotent,
    /// Executes at most once.
    Plain,
    /// Executes at most once and has no answer.
    OneWay,
    /// Executes at most once, and has another shape in the contract of an outdated server.
    Changed,
    /// Executes at most once although the client retries it; an outdated server does not support that.
    Once,
    /// Executes at most once, and returns a stream; an outdated server returns none.
    Download,
    /// Executes at most once, and takes a stream; an outdated server does not support that.
    Upload,
    /// Executes at most once, and takes and returns a stream; an outdated server does not support that.
    Talk,
}

impl SimService {
    /// Both services.
    pub(crate) const ALL: [Self; 2] = [Self::Ledger, Self::Archive];

    /// Returns the service with `name`.
    pub(crate) fn named(name: &str) -> Self {
        if name == "sim.Ledger" { Self::Ledger } else { Self::Archive }
    }
}

impl Kind {
    /// Returns the maximum number of executions of one call.
    pub(crate) fn max_executions(self) -> usize {
        match self {
            Self::Idempotent => 3,
            Self::Plain | Self::OneWay | Self::Changed | Self::Once => 1,
            Self::Download | Self::Upload | Self::Talk => 1,
        }
    }

    /// Returns whether its calls have streams.
    pub(crate) fn has_streams(self) -> bool {
        matches!(self, Self::Download | Self::Upload | Self::Talk)
    }

    /// Returns whether its callers send a stream.
    pub(crate) fn sends_items(self) -> bool {
        matches!(self, Self::Upload | Self::Talk)
    }
}
