//! The contract `bench.Echo:1.0` and its implementation.

use rpc_core::rpc_service;
use serde::{Deserialize, Serialize};

/// Returns its requests.
#[rpc_service(name = "bench.Echo", version = "1.0")]
pub(crate) trait Echo {
    /// Returns the fields of the request.
    async fn echo(&self, request: EchoRequest) -> EchoReply;
}

/// The request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EchoRequest {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// Serde serializes a `Vec<u8>` element by element; `serde_bytes` copies it at once, with the same bytes on the
    /// wire. Users with large payloads are expected to use it.
    #[serde(with = "serde_bytes")]
    pub(crate) payload: Vec<u8>,
}

/// The reply.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EchoReply {
    pub(crate) id: u64,
    pub(crate) name: String,
    #[serde(with = "serde_bytes")]
    pub(crate) payload: Vec<u8>,
}

/// An implementation of [`Echo`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct EchoService;

impl Echo for EchoService {
    async fn echo(&self, request: EchoRequest) -> EchoReply {
        let EchoRequest { id, name, payload } = request;
        EchoReply { id, name, payload }
    }
}
