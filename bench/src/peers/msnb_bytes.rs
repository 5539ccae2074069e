//! msnb with the payload as `Bytes`, which volo's generator makes of it too: long ones are not copied.

use std::net::SocketAddr;

use bytes::Bytes;
use rpc_client::Client;
use rpc_core::rpc_service;
use rpc_server::ServerConfig;
use serde::{Deserialize, Serialize};

use crate::{
    Failure, client,
    link::{Link, Sample},
    server,
};

/// Says again what it is told.
#[rpc_service(name = "bench.Echo", version = "1.0")]
pub(crate) trait Echo {
    /// The request as a reply.
    async fn echo(&self, request: EchoRequest) -> EchoReply;
}

/// What is to be said again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EchoRequest {
    id: u64,
    name: String,
    #[serde(with = "rpc_core::uncopied")]
    payload: Bytes,
}

/// What was said.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EchoReply {
    id: u64,
    name: String,
    #[serde(with = "rpc_core::uncopied")]
    payload: Bytes,
}

/// Says again what it is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parrot;

impl Echo for Parrot {
    async fn echo(&self, request: EchoRequest) -> EchoReply {
        let EchoRequest { id, name, payload } = request;
        EchoReply { id, name, payload }
    }
}

/// Serves until the process is killed.
pub(super) async fn serve(address: SocketAddr, config: ServerConfig) -> Result<(), Failure> {
    server::serve_with(EchoServer::new(Parrot), address, config).await
}

/// Makes `count` clients.
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
