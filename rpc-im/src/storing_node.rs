//! [`StoringNode`]: the node that has the store and the directory for other nodes.

use std::net::SocketAddr;

use rpc_core::Error;

/// The address of the node that has the store and the directory for other nodes.
pub(crate) struct StoringNode(pub(crate) SocketAddr);

impl StoringNode {
    /// Returns the text for a user whose request failed.
    pub(crate) fn unavailable(&self, error: &Error) -> String {
        format!("the storing node {} does not answer: {error}", self.0)
    }
}
