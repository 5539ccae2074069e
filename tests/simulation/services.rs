//! The services and kinds of methods that a simulated call can have.

/// One of the two simulated services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SimService {
    /// `sim.Ledger`.
    Ledger,
    /// `sim.Archive`.
    Archive,
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
        }
    }
}
