//! [`NodeMessage`]: a payload for sessions, on its way to them and back when delivery fails.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::rpc::{ForwardedMessage, PayloadKind};
use crate::{
    directory::SessionEntry,
    envelope::ServerFrame,
    identity::SessionId,
    session::local_sessions::{DeliveryError, Payload},
};

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
    pub(crate) targets: Vec<SessionEntry>,
    pub(crate) attempt: Attempt,
}

/// A message that one session did not receive.
pub(crate) struct Undelivered {
    pub(crate) message: Arc<NodeMessage>,
    pub(crate) target: SessionEntry,
    pub(crate) attempt: Attempt,
    /// The error that the node reported; `None` if the node did not answer.
    pub(crate) error: Option<DeliveryError>,
}

/// The number of an attempt to deliver a message, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt(pub(crate) usize);

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
        ForwardedMessage {
            sessions: self.targets.iter().map(|target| target.session).collect(),
            kind: self.message.kind(),
            payload: self.message.encoded().clone(),
        }
    }
}

impl Attempt {
    pub(crate) const FIRST: Self = Self(0);

    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
