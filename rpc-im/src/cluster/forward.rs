//! [`ForwardService`]: the implementation of [`NodeForward`] that other nodes call.

use std::sync::Arc;

use super::{
    delivery::Delivery,
    local_node::LocalNode,
    router::NodeRouter,
    rpc::{DeliveryFailure, ForwardedMessage, HelloReply, NodeForward, Recipients},
    view::NodeInfo,
};
use crate::{
    identity::{NodeId, SessionId},
    presence::Presence,
    session::local_sessions::LocalSessions,
};

/// The implementation of [`NodeForward`] that other nodes call.
pub(crate) struct ForwardService {
    pub(crate) local: Arc<LocalNode>,
    pub(crate) router: Arc<NodeRouter>,
    pub(crate) sessions: Arc<LocalSessions>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) presence: Arc<Presence>,
}

impl NodeForward for ForwardService {
    async fn hello(&self, from: NodeInfo) -> HelloReply {
        let missed_count = self.router.handle_hello(&from);
        HelloReply { info: self.local.info(), missed_count }
    }

    async fn deliver(&self, node: NodeId, messages: Vec<ForwardedMessage>) -> Option<Vec<DeliveryFailure>> {
        if node != self.local.id() {
            return None;
        }
        let mut failures = Vec::new();
        for (index, message) in (0..).zip(messages) {
            // The client reads a frame that this version cannot decode from the store.
            let Some(payload) = message.decode() else { continue };
            match message.to {
                Recipients::Sessions(sessions) => {
                    for session in sessions {
                        if let Err(error) = self.sessions.deliver(session, &payload) {
                            failures.push(DeliveryFailure { message: index, session, error });
                        }
                    }
                }
                to => self.delivery.deliver_here(&to, &payload, None).await,
            }
        }
        Some(failures)
    }

    async fn kick(&self, node: NodeId, sessions: Vec<SessionId>, reason: String) {
        if node == self.local.id() {
            for session in sessions {
                self.sessions.kick(session, &reason);
            }
        }
    }

    async fn sessions_changed(&self, users: Vec<String>) {
        self.presence.schedule_check(users);
    }
}
