//! [`ConversationContext`]: the components that all conversations of a node share.

use std::sync::Arc;

use dashmap::DashMap;
use rpc_core::contained;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

use super::{command::Command, error::ConversationError};
use crate::{
    cluster::{delivery::Delivery, local_node::LocalNode, router::NodeRouter},
    snowflake::Snowflake,
    store::{Limits, Store, StoreError},
};

/// The components that all conversations of a node share.
pub(crate) struct ConversationContext {
    pub(crate) local: Arc<LocalNode>,
    pub(crate) router: Arc<NodeRouter>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) ids: Arc<Snowflake>,
    /// The number of nodes that store each conversation (`NodeConfig::copies`).
    pub(crate) copies: usize,
    pub(crate) active: ActiveConversations,
}

/// The conversations that have a task on this node.
#[derive(Default)]
pub(crate) struct ActiveConversations {
    pub(super) senders: DashMap<String, mpsc::Sender<Command>>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl ConversationContext {
    /// Logs a failure of the store and returns the error for the caller.
    pub(super) fn store_failed(&self, failure: &StoreError) -> ConversationError {
        contained(|| error!(node = %self.local.key(), %failure, "reading or writing a conversation failed"));
        ConversationError::Unavailable("the store of a node failed".to_owned())
    }

    /// Removes an idle conversation; returns false if a caller has just cloned its sender.
    pub(super) fn remove_idle(&self, name: &str, commands: &mpsc::Receiver<Command>) -> bool {
        // Under the entry's lock no caller clones the sender. If the map has the only sender, no caller is about to
        // send.
        let is_idle = |sender: &mpsc::Sender<Command>| sender.strong_count() == 1 && commands.is_empty();
        self.active.senders.remove_if(name, |_, sender| is_idle(sender)).is_some()
    }
}

/// The limits of one page of records that is sent to another node.
pub(super) const PAGE: Limits = Limits { records: 256, bytes: 256 << 10 };
