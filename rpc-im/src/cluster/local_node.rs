//! [`LocalNode`]: the description of this node that it announces to others.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::view::NodeInfo;
use crate::{identity::NodeId, session::local_sessions::LocalSessions};

/// The description of this node that it announces to others.
pub(crate) struct LocalNode {
    id: NodeId,
    name: String,
    address: SocketAddr,
    websocket: String,
    sessions: Arc<LocalSessions>,
    draining: AtomicBool,
}

impl LocalNode {
    pub(crate) fn new(
        id: NodeId,
        name: String,
        address: SocketAddr,
        websocket: String,
        sessions: Arc<LocalSessions>,
    ) -> Self {
        Self { id, name, address, websocket, sessions, draining: AtomicBool::new(false) }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn info(&self) -> NodeInfo {
        NodeInfo {
            id: self.id,
            name: self.name.clone(),
            address: self.address,
            websocket: self.websocket.clone(),
            connections: u32::try_from(self.sessions.len()).unwrap_or(u32::MAX),
            draining: self.is_draining(),
        }
    }

    /// Announces from now on that this node drains; returns false if it did so already.
    pub(crate) fn set_draining(&self) -> bool {
        !self.draining.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
