//! [`Shortages`]: connects that fail because this machine lacks a resource.

use std::{
    error::Error as StdError,
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rpc_core::{Error, contained};
use rustix::io::Errno;
use tokio::time::Instant;
use tracing::warn;

/// The connects of a client that fail because this machine lacks a resource.
///
/// They count neither against the provider nor toward its eviction.
#[derive(Debug, Default)]
pub(crate) struct Shortages {
    last_warning: Mutex<Option<Instant>>,
}

impl Shortages {
    /// The longest pause before a connect is repeated; half of it is random.
    pub(crate) const PAUSE: Duration = Duration::from_millis(500);

    /// Logs a shortage, at most once per [`WARNING_INTERVAL`].
    pub(crate) fn report(&self, address: SocketAddr, error: &Error) {
        let now = Instant::now();
        let due = |last: Instant| now.saturating_duration_since(last) >= WARNING_INTERVAL;
        let mut last = self.last_warning.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(due) {
            *last = Some(now);
            drop(last);
            contained(|| warn!(%address, %error, "this machine lacks a resource, the client connects again later"));
        }
    }
}

/// Returns whether a failed connect is due to a shortage of this machine: file descriptors, memory or ports.
///
/// A missing route is none: it may be missing for this address only, and forever.
pub(crate) fn is_shortage(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let io_error = error.downcast_ref::<io::Error>();
        if io_error.is_some_and(is_local) {
            return true;
        }
        // The source of an `io::Error` that wraps another error is the source of that error.
        let wrapped = io_error.and_then(io::Error::get_ref);
        cause = wrapped.map_or_else(|| error.source(), |wrapped| Some(wrapped as &(dyn StdError + 'static)));
    }
    false
}

fn is_local(error: &io::Error) -> bool {
    const LOCAL: [Errno; 5] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::ADDRNOTAVAIL];
    let code = error.raw_os_error();
    code.is_some_and(|code| LOCAL.iter().any(|local| local.raw_os_error() == code))
}

/// The interval between two warnings of a client about shortages.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use rpc_core::Code;

    use super::*;

    fn failed(error: io::Error) -> Error {
        Error::not_executed(Code::Unavailable, "cannot connect").with_source(error)
    }

    #[test]
    fn only_errors_of_this_machine_are_shortages() {
        for local in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::ADDRNOTAVAIL] {
            assert!(is_shortage(&failed(local.into())), "{local}");
            // A connector may wrap the error of the system.
            assert!(is_shortage(&failed(io::Error::other(io::Error::from(local)))), "{local}");
        }
        for other in [Errno::CONNREFUSED, Errno::CONNRESET, Errno::TIMEDOUT, Errno::HOSTUNREACH, Errno::NETUNREACH] {
            assert!(!is_shortage(&failed(other.into())), "{other}");
        }
        assert!(!is_shortage(&Error::not_executed(Code::Unavailable, "cannot connect")));
    }
}
