//! tarpc over TCP with bincode, as its examples have it.

use std::net::SocketAddr;

use futures_util::StreamExt;
use tarpc::{
    client::Config,
    context::Context,
    serde_transport,
    server::{BaseChannel, Channel},
    tokio_serde::formats::Bincode,
    tokio_util::codec::LengthDelimitedCodec,
};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::{accept, dial};
use crate::{
    Failure,
    echo::{EchoReply, EchoRequest},
    link::{Link, Sample},
};

/// Says again what it is told.
#[tarpc::service]
pub(crate) trait Parrot {
    /// The request as a reply.
    async fn echo(request: EchoRequest) -> EchoReply;
}

/// Says again what it is told.
#[derive(Debug, Clone)]
struct Server;

impl Parrot for Server {
    async fn echo(self, _: Context, request: EchoRequest) -> EchoReply {
        let EchoRequest { id, name, payload } = request;
        EchoReply { id, name, payload }
    }
}

/// Serves until the process is killed.
pub(super) async fn serve(listener: TcpListener) -> Result<(), Failure> {
    let tasks = TaskTracker::new();
    loop {
        let framed = LengthDelimitedCodec::builder().new_framed(accept(&listener).await?);
        let channel = BaseChannel::with_defaults(serde_transport::new(framed, Bincode::default()));
        let handlers = tasks.clone();
        tasks.spawn(channel.execute(Server.serve()).for_each(move |handler| {
            handlers.spawn(handler);
            std::future::ready(())
        }));
    }
}

/// Makes `count` connections.
pub(super) async fn connect(address: SocketAddr, count: usize) -> Result<Vec<ParrotClient>, Failure> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let framed = LengthDelimitedCodec::builder().new_framed(dial(address).await?);
        let transport = serde_transport::new(framed, Bincode::default());
        clients.push(ParrotClient::new(Config::default(), transport).spawn());
    }
    Ok(clients)
}

impl Link for ParrotClient {
    async fn echo(&self, id: u64, sample: &Sample) -> Result<(), Failure> {
        let request = EchoRequest { id, name: sample.name.clone(), payload: sample.payload.clone() };
        let reply = ParrotClient::echo(self, tarpc::context::current(), request).await?;
        sample.check(id, reply.id, &reply.name, &reply.payload)
    }
}
