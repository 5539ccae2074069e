//! [`NodeForward`]: the RPC service by which nodes exchange messages for sessions.

use std::sync::Arc;

use bytes::Bytes;
use rpc_core::rpc_service;
use serde::{Deserialize, Serialize};

use super::view::NodeInfo;
use crate::{
    envelope::ServerFrame,
    identity::{NodeId, SessionId},
    session::local_sessions::{DeliveryError, Payload},
};

/// The service by which nodes exchange messages for sessions.
#[rpc_service(name = "im.NodeForward", version = "2.0")]
pub(crate) trait NodeForward {
    /// Announces the calling node and returns the description of this one.
    #[rpc(idempotent, timeout = "3s")]
    async fn hello(&self, from: NodeInfo) -> HelloReply;

    /// Delivers messages to sessions of this node; returns the failed deliveries.
    ///
    /// `None` if this is another run of the node than `node`.
    #[rpc(timeout = "2s")]
    async fn deliver(&self, node: NodeId, messages: Vec<ForwardedMessage>) -> Option<Vec<DeliveryFailure>>;

    /// Ends sessions of this node.
    #[rpc(idempotent, timeout = "2s")]
    async fn kick(&self, node: NodeId, sessions: Vec<SessionId>, reason: String);

    /// Reports that sessions of these users began or ended, to a node that watches the users' presence.
    #[rpc(one_way, timeout = "1s")]
    async fn sessions_changed(&self, users: Vec<String>);
}

/// The answer to a hello.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HelloReply {
    pub(crate) info: NodeInfo,
    /// The number of times that the caller's clients may have missed messages from this node.
    pub(crate) missed_count: u64,
}

/// One payload, and the sessions that it is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ForwardedMessage {
    pub(crate) to: Recipients,
    pub(crate) kind: PayloadKind,
    pub(crate) payload: Bytes,
}

/// The sessions of a node that receive a message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Recipients {
    Sessions(Vec<SessionId>),
    /// All sessions of these users.
    Users(Vec<String>),
    /// All sessions of the members of a conversation, as of this version of the members or a later one.
    Members {
        conversation: String,
        version: u64,
    },
}

/// The type of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PayloadKind {
    /// A frame for a client, in protobuf.
    Frame,
    /// Bytes for one side of a pairing room.
    Opaque,
}

/// A session that did not receive a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeliveryFailure {
    /// The index of the message in the call, from 0.
    pub(crate) message: u32,
    pub(crate) session: SessionId,
    pub(crate) error: DeliveryError,
}

impl ForwardedMessage {
    /// Decodes the payload; `None` for a frame of a newer version.
    pub(super) fn decode(&self) -> Option<Payload> {
        match self.kind {
            PayloadKind::Frame => {
                ServerFrame::from_protobuf(&self.payload).ok().map(|frame| Payload::Frame(Arc::new(frame)))
            }
            PayloadKind::Opaque => Some(Payload::Opaque(self.payload.clone())),
        }
    }
}
