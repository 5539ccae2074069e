//! [`FinalState`]: the state of the servers and the registry at the end of a run.

use std::net::SocketAddr;

use super::services::SimService;

/// The state of the servers and the registry at the end of a run.
pub(crate) struct FinalState {
    /// Addresses that the registry lists, by service.
    pub(crate) listed: Vec<(SimService, Vec<SocketAddr>)>,
    /// The server that crashed permanently and may still be listed.
    pub(crate) dead: Option<SocketAddr>,
    /// The server that serves an incompatible contract of the first service.
    pub(crate) outdated: Option<SocketAddr>,
}
