//! [`Broadcast`]: sends messages to all nodes, through a backplane or over the links.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use rpc_core::contained;
use tracing::debug;

use super::{
    message::{NodeMessage, OutgoingMessage},
    router::NodeRouter,
    rpc::Recipients,
};
use crate::{
    backplane::{Backplane, Received},
    envelope::ServerFrame,
    session::local_sessions::Payload,
};

/// Sends messages to all nodes, through a backplane or over the links.
pub(crate) struct Broadcast {
    router: Arc<NodeRouter>,
    backplane: Option<Arc<dyn Backplane>>,
}

/// A message for all nodes, as it is sent through a backplane.
#[derive(Clone, PartialEq, prost::Message)]
struct BroadcastMessage {
    /// The users that receive the message, if it is not for the members of a conversation.
    #[prost(string, repeated, tag = "1")]
    users: Vec<String>,
    /// The conversation whose members receive the message.
    #[prost(string, tag = "2")]
    conversation: String,
    /// The version of its members.
    #[prost(uint64, tag = "3")]
    version: u64,
    /// The frame for the clients.
    #[prost(bytes = "bytes", tag = "4")]
    frame: Bytes,
}

impl Broadcast {
    pub(crate) fn new(router: Arc<NodeRouter>, backplane: Option<Arc<dyn Backplane>>) -> Self {
        Self { router, backplane }
    }

    /// Sends a message to all other nodes.
    ///
    /// If the backplane does not accept it, the message goes over the links.
    pub(super) async fn send(&self, message: &Arc<NodeMessage>, to: &Recipients) {
        if let Some(backplane) = &self.backplane
            && let Some(encoded) = BroadcastMessage::encoded(message, to)
        {
            match backplane.publish(encoded).await {
                Ok(()) => return,
                Err(error) => {
                    contained(|| debug!(%error, "the backplane does not accept a message; sending it over the links"));
                }
            }
        }
        self.router.broadcast(|| OutgoingMessage { message: Arc::clone(message), to: to.clone() });
    }

    /// Returns the next message of another node from the backplane, or `None` if messages may have been lost.
    ///
    /// Never completes without a backplane.
    pub(super) async fn next(&self) -> Option<(Recipients, Payload)> {
        let Some(backplane) = &self.backplane else { return std::future::pending().await };
        loop {
            match backplane.next().await {
                Received::Gap => return None,
                Received::Message(encoded) => {
                    // The client reads a frame that this version cannot decode from the store.
                    if let Some(decoded) = BroadcastMessage::decoded(encoded) {
                        return Some(decoded);
                    }
                }
            }
        }
    }
}

impl BroadcastMessage {
    /// Encodes a message; `None` if it is for sessions, or is not a frame for clients.
    fn encoded(message: &NodeMessage, to: &Recipients) -> Option<Bytes> {
        let Payload::Frame(_) = message.payload else { return None };
        let frame = message.encoded().clone();
        let encoded = match to.clone() {
            Recipients::Sessions(_) => return None,
            Recipients::Users(users) => Self { users, frame, ..Self::default() },
            Recipients::Members { conversation, version } => Self { conversation, version, frame, ..Self::default() },
        };
        Some(encoded.encode_to_vec().into())
    }

    fn decoded(encoded: Bytes) -> Option<(Recipients, Payload)> {
        let Self { users, conversation, version, frame } = Self::decode(encoded).ok()?;
        let frame = ServerFrame::from_protobuf(&frame).ok()?;
        let to = if conversation.is_empty() {
            Recipients::Users(users)
        } else {
            Recipients::Members { conversation, version }
        };
        Some((to, Payload::Frame(Arc::new(frame))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Lagging;

    #[test]
    fn decoding_inverts_encoding() {
        let message = NodeMessage::frame(ServerFrame::Lagging(Lagging { conversation: "c".into(), seq: 7 }));
        let members = Recipients::Members { conversation: "c".into(), version: 3 };
        for to in [Recipients::Users(vec!["ann".into(), "bo".into()]), members] {
            let encoded = BroadcastMessage::encoded(&message, &to).unwrap();
            let (decoded, Payload::Frame(frame)) = BroadcastMessage::decoded(encoded).unwrap() else { panic!() };
            assert_eq!(format!("{decoded:?}"), format!("{to:?}"));
            assert_eq!(*frame, ServerFrame::Lagging(Lagging { conversation: "c".into(), seq: 7 }));
        }
        assert!(BroadcastMessage::encoded(&message, &Recipients::Sessions(Vec::new())).is_none());
    }
}
