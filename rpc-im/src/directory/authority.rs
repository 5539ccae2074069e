//! [`Authority`]: the RPC service of the embedded directory.

use rpc_core::rpc_service;
use serde::{Deserialize, Serialize};

use super::{ClaimError, LookupResult, Policy, SessionEntry};
use crate::{
    cluster::hops::Hops,
    identity::{NodeKey, SessionId},
};

/// The service of the node that stores the sessions of a user.
#[rpc_service(name = "im.Directory", version = "1.0")]
pub(crate) trait Authority {
    /// Registers a session.
    #[rpc(idempotent, timeout = "2s")]
    async fn claim(&self, hops: Hops, entry: SessionEntry, policy: Policy) -> Result<(), ClaimError>;

    /// Removes exactly this session.
    #[rpc(idempotent, timeout = "2s")]
    async fn release(&self, entry: SessionEntry);

    /// Returns the sessions of these users that the node stores.
    #[rpc(idempotent, timeout = "1s")]
    async fn lookup(&self, users: Vec<String>) -> Vec<LookupResult>;

    /// Takes one part of a report; returns the sessions that lost to others.
    ///
    /// A report has all sessions of a node that this node stores.
    #[rpc(name = "tell", idempotent, timeout = "3s")]
    async fn report(&self, part: ReportPart, sessions: Vec<ReportedSession>, policy: Policy) -> Vec<SessionEntry>;
}

/// The header of one part of a report.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ReportPart {
    pub(super) node: NodeKey,
    /// The fingerprint of the view by which the reporting node selected the sessions.
    pub(super) fingerprint: u64,
    /// An id from before the report was collected: the report lacks sessions with higher ids.
    pub(super) before: SessionId,
    pub(super) is_first: bool,
    pub(super) is_last: bool,
}

/// A session in a report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ReportedSession {
    pub(super) entry: SessionEntry,
    /// Whether the directory has accepted the session.
    ///
    /// The receiver keeps an unregistered session that it stores already, and does not add one.
    #[serde(rename = "entered")]
    pub(super) registered: bool,
}
