//! tonic (gRPC over HTTP/2) with prost messages.

use std::{net::SocketAddr, pin::Pin};

use futures_util::{Stream, stream::poll_fn};
use tokio::net::{TcpListener, TcpStream};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server},
};

use self::generated::{
    echo_client::EchoClient,
    echo_server::{Echo, EchoServer},
};
use crate::{
    failure::Failure,
    link::{Link, Sample},
};

#[allow(missing_docs, unreachable_pub, clippy::all)]
pub(crate) mod generated {
    include!(concat!(env!("OUT_DIR"), "/bench.Echo.rs"));
}

/// The request.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EchoRequest {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) payload: Vec<u8>,
}

/// The reply.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EchoReply {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) payload: Vec<u8>,
}

/// An implementation of [`Echo`].
#[derive(Debug)]
struct EchoService;

#[tonic::async_trait]
impl Echo for EchoService {
    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoReply>, Status> {
        let EchoRequest { id, name, payload } = request.into_inner();
        Ok(Response::new(EchoReply { id, name, payload }))
    }
}

/// Serves until the process is killed.
pub(super) async fn serve(listener: TcpListener) -> Result<(), Failure> {
    Server::builder().add_service(EchoServer::new(EchoService)).serve_with_incoming(incoming(listener)).await?;
    Ok(())
}

/// Returns accepted connections with `TCP_NODELAY`.
pub(crate) fn incoming(listener: TcpListener) -> Pin<Box<dyn Stream<Item = std::io::Result<TcpStream>> + Send>> {
    Box::pin(poll_fn(move |cx| {
        listener.poll_accept(cx).map(|accepted| {
            Some(accepted.and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                Ok(stream)
            }))
        })
    }))
}

/// Opens `count` connections, with `TCP_NODELAY` by tonic's default.
pub(super) async fn connect(address: SocketAddr, count: usize) -> Result<Vec<EchoClient<Channel>>, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(EchoClient::new(endpoint.connect().await?));
    }
    Ok(clients)
}

impl Link for EchoClient<Channel> {
    async fn echo(&self, id: u64, sample: &Sample) -> Result<(), Failure> {
        let request = EchoRequest { id, name: sample.name.clone(), payload: sample.payload.clone() };
        // tonic's calls need `&mut self`; a clone uses the same connection.
        let reply = EchoClient::echo(&mut self.clone(), request).await?.into_inner();
        sample.check(id, reply.id, &reply.name, &reply.payload)
    }
}
