//! volo-thrift with its framed binary protocol.

use std::net::SocketAddr;

use pilota::{Bytes, FastStr};
use tokio::net::TcpListener;
use volo::net::{Address, incoming::DefaultIncoming};
use volo_thrift::ServerError;

use self::generated::idl::echo::{Echo, EchoClient, EchoClientBuilder, EchoReply, EchoRequest, EchoServer};
use crate::{
    failure::Failure,
    link::{Link, Sample},
};

#[allow(missing_docs, unreachable_pub, dead_code, unused_imports, clippy::all)]
pub(crate) mod generated {
    include!(concat!(env!("OUT_DIR"), "/volo_gen.rs"));
    pub(crate) use volo_gen as idl;
}

/// The assignment of calls to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connections {
    /// Many concurrent calls per connection.
    Shared,
    /// A pool with one call at a time per connection.
    Pooled,
}

/// An implementation of [`Echo`].
#[derive(Debug)]
struct EchoService;

impl Echo for EchoService {
    async fn echo(&self, request: EchoRequest) -> Result<EchoReply, ServerError> {
        let EchoRequest { id, name, payload, .. } = request;
        Ok(EchoReply { id, name, payload })
    }
}

/// Serves until the process is killed.
pub(super) async fn serve(listener: TcpListener, connections: Connections) -> Result<(), Failure> {
    let server = EchoServer::new(EchoService).multiplex(connections == Connections::Shared);
    server.run(DefaultIncoming::from(listener)).await.map_err(|error| error as Failure)
}

/// Creates `count` clients, which connect on their first call.
pub(super) fn connect(address: SocketAddr, count: usize, connections: Connections) -> Vec<EchoClient> {
    let client = || {
        EchoClientBuilder::new("bench.Echo")
            .address(Address::from(address))
            .multiplex(connections == Connections::Shared)
            .build()
    };
    (0..count).map(|_| client()).collect()
}

impl Link for EchoClient {
    async fn echo(&self, id: u64, sample: &Sample) -> Result<(), Failure> {
        let request = EchoRequest {
            id: id as i64,
            name: FastStr::from(sample.name.clone()),
            payload: Bytes::from(sample.payload.clone()),
        };
        let reply = EchoClient::echo(self, request).await?;
        sample.check(id, reply.id as u64, &reply.name, &reply.payload)
    }
}
