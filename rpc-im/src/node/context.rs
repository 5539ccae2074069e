//! [`NodeContext`]: the components of a node that its sessions use.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::{
    cluster::{delivery::Delivery, local_node::LocalNode, router::NodeRouter},
    conversation::Conversations,
    directory::Directory,
    presence::Presence,
    session::{local_sessions::LocalSessions, terminator::SessionTerminator},
    snowflake::Snowflake,
};

/// The components of a node that its sessions use.
pub(crate) struct NodeContext {
    pub(crate) local: Arc<LocalNode>,
    pub(crate) sessions: Arc<LocalSessions>,
    pub(crate) router: Arc<NodeRouter>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) terminator: Arc<SessionTerminator>,
    pub(crate) conversations: Arc<Conversations>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) ids: Arc<Snowflake>,
    /// The requests of sessions, their logins and their cleanup.
    pub(crate) tasks: TaskTracker,
}
