//! gRPC: callers with tonic, the client of another implementation, call the services of a server.

mod deadlines;
mod health;
mod partners;
mod reflection;
mod security;
mod streams;
mod unary;

use std::net::SocketAddr;

use http::uri::PathAndQuery;
use rpc_grpc::Grpc;
use rpc_server::{Server, ServerBuilder};
use tests::{in_time, probe::Probe, serving::Serving};
use tonic::{
    Request, Response, Status, Streaming,
    client::Grpc as Client,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

/// A message with a text as its first field.
#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    value: String,
}

/// A message with a number as its first field.
#[derive(Clone, PartialEq, prost::Message)]
struct Number {
    #[prost(uint64, tag = "1")]
    value: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

fn text(value: impl Into<String>) -> Text {
    Text { value: value.into() }
}

fn number(value: u64) -> Number {
    Number { value }
}

/// A caller with one connection.
#[derive(Clone)]
struct Caller(Channel);

impl Caller {
    async fn connect(address: SocketAddr) -> Self {
        Self(in_time(Endpoint::try_from(format!("http://{address}")).unwrap().connect()).await.unwrap())
    }

    async fn client(&self) -> Client<Channel> {
        let mut client = Client::new(self.0.clone()).max_decoding_message_size(64 << 20);
        in_time(client.ready()).await.unwrap();
        client
    }

    /// Calls a method without streams.
    async fn unary<Q, R>(&self, path: &'static str, request: Request<Q>) -> Result<Response<R>, Status>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let (path, codec) = (PathAndQuery::from_static(path), ProstCodec::<Q, R>::default());
        in_time(self.client().await.unary(request, path, codec)).await
    }

    /// Calls a method with the result `R`, and returns the result.
    async fn call<Q, R>(&self, path: &'static str, request: Q) -> Result<R, Status>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        Ok(self.unary(path, Request::new(request)).await?.into_inner())
    }

    /// Calls a method that returns a stream.
    async fn items<Q, R>(&self, path: &'static str, request: Q) -> Result<Streaming<R>, Status>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let (path, codec) = (PathAndQuery::from_static(path), ProstCodec::<Q, R>::default());
        Ok(in_time(self.client().await.server_streaming(Request::new(request), path, codec)).await?.into_inner())
    }

    /// Calls a method with two streams.
    async fn both<Q, R>(
        &self,
        path: &'static str,
        items: impl futures_util::Stream<Item = Q> + Send + 'static,
    ) -> Result<Streaming<R>, Status>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let (path, codec) = (PathAndQuery::from_static(path), ProstCodec::<Q, R>::default());
        Ok(in_time(self.client().await.streaming(Request::new(items), path, codec)).await?.into_inner())
    }
}

/// Calls `echo` with a connection of its own.
pub(super) async fn echo(address: SocketAddr, value: &str) -> Result<String, Status> {
    Ok(Caller::connect(address).await.call::<_, Text>(ECHO, text(value)).await?.value)
}

fn serving(probe: &Probe) -> ServerBuilder {
    Server::builder().service(probe.server()).endpoint(Grpc::new())
}

/// Starts a server of `probe`, and connects to it.
async fn start(probe: &Probe) -> (Serving, Caller) {
    let serving = Serving::start(serving(probe)).await;
    let caller = Caller::connect(serving.address()).await;
    (serving, caller)
}

const ECHO: &str = "/test.probe.v1_0.Probe/Echo";
const HOLD: &str = "/test.probe.v1_0.Probe/Hold";
