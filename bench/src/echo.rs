//! The contract `bench.Echo:1.0`, and a parrot that keeps it.

use rpc_core::rpc_service;
use serde::{Deserialize, Serialize};

/// Says again what it is told.
#[rpc_service(name = "bench.Echo", version = "1.0")]
pub(crate) trait Echo {
    /// The request as a reply.
    async fn echo(&self, request: EchoRequest) -> EchoReply;
}

/// What is to be said again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EchoRequest {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// Serde takes a `Vec<u8>` element by element; `serde_bytes` takes it at once, with the same bytes on the wire. An ordinary
    /// thing for a user with payloads to do.
    #[serde(with = "serde_bytes")]
    pub(crate) payload: Vec<u8>,
}

/// What was said.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EchoReply {
    pub(crate) id: u64,
    pub(crate) name: String,
    #[serde(with = "serde_bytes")]
    pub(crate) payload: Vec<u8>,
}

/// Says again what it is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parrot;

impl Echo for Parrot {
    async fn echo(&self, request: EchoRequest) -> EchoReply {
        let EchoRequest { id, name, payload } = request;
        EchoReply { id, name, payload }
    }
}
