//! msnb with payloads of type `Bytes`, which volo's generator uses too: long payloads are not copied.

use std::net::SocketAddr;

use bytes::Bytes;
use rpc_client::Client;
use rpc_core::rpc_service;
use rpc_server::ServerConfig;
use serde::{Deserialize, Serialize};

use crate::{
    client,
    failure::Failure,
    link::{Link, Sample},
    server,
};

/// Returns its requests.
#[rpc_service(name = "bench.Echo", version = "1.0")]
pub(crate) trait Echo {
    /// Returns the fields of the request.
    async fn echo(&self, request: EchoRequest) -> EchoReply;
}

/// The request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EchoRequest {
    id: u64,
    name: String,
    #[serde(with = "rpc_core::uncopied")]
    payload: Bytes,
}

/// The reply.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EchoReply {
    id: u64,
    name: String,
    #[serde(with = "rpc_core::uncopied")]
    payload: Bytes,
}

/// An implementation of [`Echo`].
#[derive(Debug, Clone, Copy)]
pub(super) struct EchoService;

impl Echo for EchoService {
    async fn echo(&self, request: EchoRequest) -> EchoReply {
        let EchoRequest { id, name, payload } = request;
        EchoReply { id, name, payload }
    }
}

/// Serves until the process is killed.
pub(super) async fn serve(address: SocketAddr, config: ServerConfig) -> Result<(), Failure> {
    server::serve_with(EchoServer::new(EchoService), address, config).await
}

/// Creates `count` proxies, each over its own client.
pub(super) async fn connect(address: SocketAddr, count: usize) -> Result<Vec<EchoClient<Client>>, Failure> {
    Ok(client::clients(address, count).await?.into_iter().map(EchoClient::new).collect())
}

impl Link for EchoClient<Client> {
    async fn echo(&self, id: u64, sample: &Sample) -> Result<(), Failure> {
        let payload = Bytes::from(sample.payload.clone());
        let request = EchoRequest { id, name: sample.name.clone(), payload };
        let reply = EchoClient::echo(self, request).await?;
        sample.check(id, reply.id, &reply.name, &reply.payload)
    }
}
