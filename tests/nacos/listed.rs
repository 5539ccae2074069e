//! [`ListedInstance`]: an instance as a server's HTTP interface lists it.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::Deserialize;

/// An instance as a server's HTTP interface lists it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ListedInstance {
    /// The IP address.
    pub ip: String,
    /// The port.
    pub port: u16,
    /// The weight.
    pub weight: f64,
    /// Whether the server considers the instance alive.
    pub healthy: bool,
    /// Whether the operator allows calls to the instance.
    pub enabled: bool,
    /// The metadata.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

impl ListedInstance {
    /// Returns the socket address of the instance.
    pub fn address(&self) -> SocketAddr {
        format!("{}:{}", self.ip, self.port).parse().expect("a listed instance has an IP address")
    }
}
