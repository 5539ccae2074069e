//! [`NodeForward`]: what nodes say to each other about sessions.

use std::sync::Arc;

use bytes::Bytes;
use rpc_core::rpc_service;
use serde::{Deserialize, Serialize};

use crate::{
    cluster::local_node::Me,
    cluster::router::NodeRouter,
    cluster::view::NodeInfo,
    directory::{Entry, embedded::Told},
    envelope::ServerFrame,
    identity::{Epoch, SessionId},
    presence::Presence,
    session::local_sessions::{Fault, Payload, Sessions},
};

/// What nodes say to each other about sessions.
#[rpc_service(name = "im.NodeForward", version = "1.0")]
pub(crate) trait NodeForward {
    /// Here I am; who are you?
    #[rpc(idempotent, timeout = "3s")]
    async fn hello(&self, from: NodeInfo) -> Welcome;

    /// Messages for sessions of this node, in this life of it; says what failed.
    #[rpc(timeout = "2s")]
    async fn deliver(&self, epoch: Epoch, parcels: Vec<Parcel>) -> Vec<Failure>;

    /// Ends sessions of this node.
    #[rpc(idempotent, timeout = "2s")]
    async fn kick(&self, sessions: Vec<SessionId>, reason: String);

    /// Sessions of these users have come or gone, for who tells others about it.
    #[rpc(one_way, timeout = "1s")]
    async fn stirred(&self, users: Vec<String>);

    /// The sessions that this node has of these users.
    #[rpc(idempotent, timeout = "1s")]
    async fn who_has(&self, users: Vec<String>) -> Vec<Entry>;
}

/// The answer to a hello.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) info: NodeInfo,
    /// The fingerprint of the caller's view with which its sessions were last all told here, for the embedded directory.
    pub(crate) told: Option<u64>,
    /// How often the caller's clients may have missed what this node had for them.
    pub(crate) doubts: u64,
}

/// One payload, and the sessions it is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Parcel {
    pub(crate) sessions: Vec<SessionId>,
    pub(crate) kind: Kind,
    pub(crate) payload: Bytes,
}

/// What a parcel's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// A frame for a client, in protobuf.
    Frame,
    /// Bytes for the side of a pairing room.
    Opaque,
}

/// A session that did not get a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Which parcel, counted from 0.
    pub(crate) parcel: u32,
    pub(crate) session: SessionId,
    pub(crate) fault: Fault,
}

/// The node's end.
pub(crate) struct Forward {
    pub(crate) me: Arc<Me>,
    pub(crate) router: Arc<NodeRouter>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) told: Arc<Told>,
    pub(crate) presence: Arc<Presence>,
}

impl NodeForward for Forward {
    async fn hello(&self, from: NodeInfo) -> Welcome {
        self.router.handle_hello(&from);
        Welcome { info: self.me.info(), told: self.told.of(from.key), doubts: self.router.doubts(from.key) }
    }

    async fn deliver(&self, epoch: Epoch, parcels: Vec<Parcel>) -> Vec<Failure> {
        let mut failures = Vec::new();
        for (number, parcel) in (0..).zip(parcels) {
            let payload = parcel.payload();
            for session in parcel.sessions {
                let outcome = match &payload {
                    _ if epoch != self.me.key().epoch => Err(Fault::StaleEpoch),
                    Some(payload) => self.sessions.deliver(session, payload),
                    // A frame that this version does not know: the client finds it in the store.
                    None => Ok(()),
                };
                if let Err(fault) = outcome {
                    failures.push(Failure { parcel: number, session, fault });
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

    async fn stirred(&self, users: Vec<String>) {
        self.presence.stir(users);
    }

    async fn who_has(&self, users: Vec<String>) -> Vec<Entry> {
        self.sessions.entries_of(&users)
    }
}

impl Parcel {
    fn payload(&self) -> Option<Payload> {
        match self.kind {
            Kind::Frame => ServerFrame::from_protobuf(&self.payload).ok().map(|frame| Payload::Frame(Arc::new(frame))),
            Kind::Opaque => Some(Payload::Opaque(self.payload.clone())),
        }
    }
}
