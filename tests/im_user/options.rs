//! [`UserOptions`]: the device of a user, its first node and its timeout.

use std::time::Duration;

/// The device of a user, its first node and its timeout.
#[derive(Debug, Clone)]
pub struct UserOptions {
    /// The name of the device.
    pub device: String,
    /// The platform of the device.
    pub platform: String,
    /// The WebSocket URL of the first node; without it, the gate selects a node.
    pub first: Option<String>,
    /// The time without a frame, even after a ping, after which the user reconnects.
    pub read_timeout: Duration,
}

impl Default for UserOptions {
    fn default() -> Self {
        let (device, platform) = ("browser".to_owned(), "web".to_owned());
        Self { device, platform, first: None, read_timeout: Duration::from_secs(3) }
    }
}

impl UserOptions {
    /// Returns the options of a user that connects to this node first.
    pub fn at(node: impl Into<String>) -> Self {
        Self { first: Some(node.into()), ..Self::default() }
    }
}
