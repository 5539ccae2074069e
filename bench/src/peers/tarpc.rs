//! tarpc over TCP with bincode, configured as in its examples.

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

use super::net::{accept, dial};
use crate::{
    // The macro of tarpc generates an `EchoRequest` of its own.
    echo::{EchoReply, EchoRequest as Message},
    failure::Failure,
    link::{Link, Sample},
};

/// Returns its requests.
#[tarpc::service]
pub(crate) trait Echo {
    /// Returns the fields of the request.
    async fn echo(request: Message) -> EchoReply;
}

/// An implementation of [`Echo`].
#[derive(Debug, Clone)]
struct Server;

impl Echo for Server {
    async fn echo(self, _: Context, request: Message) -> EchoReply {
        let Message { id, name, payload } = request;
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

/// Opens `count` connections.
pub(super) async fn connect(address: SocketAddr, count: usize) -> Result<Vec<EchoClient>, Failure> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let framed = LengthDelimitedCodec::builder().new_framed(dial(address).await?);
        let transport = serde_transport::new(framed, Bincode::default());
        clients.push(EchoClient::new(Config::default(), transport).spawn());
    }
    Ok(clients)
}

impl Link for EchoClient {
    async fn echo(&self, id: u64, sample: &Sample) -> Result<(), Failure> {
        let request = Message { id, name: sample.name.clone(), payload: sample.payload.clone() };
        let reply = EchoClient::echo(self, tarpc::context::current(), request).await?;
        sample.check(id, reply.id, &reply.name, &reply.payload)
    }
}
