//! [`NodeContext`]: the components of a node that its sessions use.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::{
    cluster::{delivery::Delivery, local_node::LocalNode, router::NodeRouter},
    conversation::{appender::Appender, receipts::Receipts},
    directory::lease::DirectoryLease,
    identity::SessionIds,
    presence::Presence,
    session::{local_sessions::LocalSessions, terminator::SessionTerminator},
    store::MessageStore,
};

/// The components of a node that its sessions use.
pub(crate) struct NodeContext {
    pub(crate) local: Arc<LocalNode>,
    pub(crate) sessions: Arc<LocalSessions>,
    pub(crate) router: Arc<NodeRouter>,
    pub(crate) lease: Arc<DirectoryLease>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) terminator: Arc<SessionTerminator>,
    pub(crate) store: Arc<dyn MessageStore>,
    pub(crate) appender: Arc<Appender>,
    pub(crate) receipts: Arc<Receipts>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) session_ids: SessionIds,
    /// Notified when an administrator drains the node.
    pub(crate) drain: Arc<Notify>,
    /// The requests of sessions, their logins and their cleanup.
    pub(crate) tasks: TaskTracker,
}
