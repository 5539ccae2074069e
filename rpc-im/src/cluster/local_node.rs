//! [`Me`]: what this node says of itself.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{cluster::view::NodeInfo, identity::NodeKey, session::local_sessions::Sessions};

/// What this node says of itself.
pub(crate) struct Me {
    key: NodeKey,
    address: SocketAddr,
    websocket: String,
    sessions: Arc<Sessions>,
    draining: AtomicBool,
}

impl Me {
    pub(crate) fn new(key: NodeKey, address: SocketAddr, websocket: String, sessions: Arc<Sessions>) -> Self {
        Self { key, address, websocket, sessions, draining: AtomicBool::new(false) }
    }

    pub(crate) fn key(&self) -> NodeKey {
        self.key
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn info(&self) -> NodeInfo {
        NodeInfo {
            key: self.key,
            address: self.address,
            websocket: self.websocket.clone(),
            connections: u32::try_from(self.sessions.len()).unwrap_or(u32::MAX),
            draining: self.is_draining(),
            protocol: PROTOCOL,
        }
    }

    /// Says from now on that this node leaves; false when it says so already.
    pub(crate) fn set_draining(&self) -> bool {
        !self.draining.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// The version of what nodes say to each other.
const PROTOCOL: u16 = 1;
