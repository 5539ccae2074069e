//! [`ForwardService`]: the implementation of [`NodeForward`] that other nodes call.

use std::sync::Arc;

use super::{
    local_node::LocalNode,
    router::NodeRouter,
    rpc::{DeliveryFailure, ForwardedMessage, HelloReply, NodeForward},
    view::NodeInfo,
};
use crate::{
    directory::{SessionEntry, reports::ReportedNodes},
    identity::{Epoch, SessionId},
    presence::Presence,
    session::local_sessions::{DeliveryError, LocalSessions},
};

/// The implementation of [`NodeForward`] that other nodes call.
pub(crate) struct ForwardService {
    pub(crate) local: Arc<LocalNode>,
    pub(crate) router: Arc<NodeRouter>,
    pub(crate) sessions: Arc<LocalSessions>,
    pub(crate) reported: Arc<ReportedNodes>,
    pub(crate) presence: Arc<Presence>,
}

impl NodeForward for ForwardService {
    async fn hello(&self, from: NodeInfo) -> HelloReply {
        self.router.handle_hello(&from);
        let (reported_view, missed_count) = (self.reported.view_of(from.key), self.router.missed_count(from.key));
        HelloReply { info: self.local.info(), reported_view, missed_count }
    }

    async fn deliver(&self, epoch: Epoch, messages: Vec<ForwardedMessage>) -> Vec<DeliveryFailure> {
        let mut failures = Vec::new();
        for (index, message) in (0..).zip(messages) {
            let payload = message.decode();
            for session in message.sessions {
                let outcome = match &payload {
                    _ if epoch != self.local.key().epoch => Err(DeliveryError::StaleEpoch),
                    Some(payload) => self.sessions.deliver(session, payload),
                    // This version cannot decode the frame; the client reads the message from the store.
                    None => Ok(()),
                };
                if let Err(error) = outcome {
                    failures.push(DeliveryFailure { message: index, session, error });
                }
            }
        }
        failures
    }

    async fn kick(&self, sessions: Vec<SessionId>, reason: String) {
        for session in sessions {
            self.sessions.kick(session, &reason);
        }
    }

    async fn sessions_changed(&self, users: Vec<String>) {
        self.presence.schedule_check(users);
    }

    async fn sessions_of(&self, users: Vec<String>) -> Vec<SessionEntry> {
        self.sessions.entries_of(&users)
    }
}
