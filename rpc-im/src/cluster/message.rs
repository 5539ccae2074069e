//! [`NodeMessage`]: a payload for sessions.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::rpc::{ForwardedMessage, PayloadKind, Recipients};
use crate::{envelope::ServerFrame, identity::SessionId, session::local_sessions::Payload};

/// One payload, shared by all its recipients and encoded at most once.
pub(crate) struct NodeMessage {
    pub(crate) payload: Payload,
    /// The session of this node that ends when delivery fails: the sending side of a pairing room.
    pub(crate) from: Option<SessionId>,
    encoded: OnceLock<Bytes>,
}

/// A message for sessions of one node.
pub(crate) struct OutgoingMessage {
    pub(crate) message: Arc<NodeMessage>,
    pub(crate) to: Recipients,
}

impl NodeMessage {
    /// Creates a message with a frame for clients.
    pub(crate) fn frame(frame: ServerFrame) -> Arc<Self> {
        Arc::new(Self { payload: Payload::Frame(Arc::new(frame)), from: None, encoded: OnceLock::new() })
    }

    /// Creates a message with bytes for the other side of a pairing room.
    pub(crate) fn room(bytes: Bytes, from: SessionId) -> Arc<Self> {
        Arc::new(Self { payload: Payload::Opaque(bytes), from: Some(from), encoded: OnceLock::new() })
    }

    /// Returns the payload as it is sent to other nodes.
    pub(super) fn encoded(&self) -> &Bytes {
        self.encoded.get_or_init(|| match &self.payload {
            Payload::Frame(frame) => frame.to_protobuf().into(),
            Payload::Opaque(bytes) => bytes.clone(),
        })
    }

    fn kind(&self) -> PayloadKind {
        match self.payload {
            Payload::Frame(_) => PayloadKind::Frame,
            Payload::Opaque(_) => PayloadKind::Opaque,
        }
    }
}

impl OutgoingMessage {
    pub(super) fn to_wire(&self) -> ForwardedMessage {
        ForwardedMessage { to: self.to.clone(), kind: self.message.kind(), payload: self.message.encoded().clone() }
    }

    /// Returns the estimated length on the wire, in bytes.
    pub(super) fn len(&self) -> usize {
        let recipients = match &self.to {
            Recipients::Sessions(sessions) => 8 * sessions.len(),
            Recipients::Users(users) => users.iter().map(|user| user.len() + 8).sum(),
            Recipients::Members { conversation, .. } => conversation.len() + 16,
        };
        self.message.encoded().len() + recipients
    }
}
