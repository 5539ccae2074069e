//! [`Peer`]: msnb, what it is compared with, and the limit.
//!
//! Each is set up as its own documentation recommends, with TCP_NODELAY, over as many connections, called by as many tasks on as
//! many workers, with the same contract, in the types that its own generator makes of it.

pub(crate) mod bare;
mod msnb_bytes;
#[cfg(feature = "compare")]
pub(crate) mod tarpc;
#[cfg(feature = "compare")]
pub(crate) mod tonic;
#[cfg(feature = "compare")]
pub(crate) mod volo;

use std::{any::Any, net::SocketAddr};

use rpc_server::ServerConfig;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    Failure, callers, client,
    echo::{EchoServer, Parrot},
    job::Job,
    link::{Link, Sample},
    process::Usage,
    server,
    summary::Summary,
};

/// A program that echoes, and its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Peer {
    /// Ours, with bincode.
    Msnb,
    /// Ours, with the payload as `Bytes`: long ones are not copied.
    MsnbBytes,
    /// tarpc with bincode.
    #[cfg(feature = "compare")]
    Tarpc,
    /// tonic, which is gRPC, with prost.
    #[cfg(feature = "compare")]
    Tonic,
    /// volo-thrift, many calls on a connection, for which it must be asked.
    #[cfg(feature = "compare")]
    Volo,
    /// volo-thrift as it comes: a pool of connections, one call at a time on each.
    #[cfg(feature = "compare")]
    VoloPool,
    /// Frames that are sent back, without any call: the limit.
    Bare,
}

/// Connections that stay open while this is held.
pub(crate) type Held = Vec<Box<dyn Any + Send>>;

impl Peer {
    /// Serves the echo at `address` until the process is killed.
    pub(crate) async fn serve(self, address: SocketAddr) -> Result<(), Failure> {
        match self {
            Self::Msnb => server::serve_with(EchoServer::new(Parrot), address, many_connections()).await,
            Self::MsnbBytes => msnb_bytes::serve(address, many_connections()).await,
            #[cfg(feature = "compare")]
            Self::Tarpc => tarpc::serve(listen(address).await?).await,
            #[cfg(feature = "compare")]
            Self::Tonic => tonic::serve(listen(address).await?).await,
            #[cfg(feature = "compare")]
            Self::Volo => volo::serve(listen(address).await?, volo::Connections::Shared).await,
            #[cfg(feature = "compare")]
            Self::VoloPool => volo::serve(listen(address).await?, volo::Connections::Pooled).await,
            Self::Bare => bare::serve(listen(address).await?).await,
        }
    }

    /// Does `job` at the server at `address`.
    pub(crate) async fn run(self, address: SocketAddr, job: &Job, usage: Usage) -> Result<Summary, Failure> {
        let conns = job.conns.get();
        match self {
            Self::Msnb => callers::call(client::connect(address, conns).await?, job, usage).await,
            Self::MsnbBytes => callers::call(msnb_bytes::connect(address, conns).await?, job, usage).await,
            #[cfg(feature = "compare")]
            Self::Tarpc => callers::call(tarpc::connect(address, conns).await?, job, usage).await,
            #[cfg(feature = "compare")]
            Self::Tonic => callers::call(tonic::connect(address, conns).await?, job, usage).await,
            #[cfg(feature = "compare")]
            Self::Volo => callers::call(volo::connect(address, conns, volo::Connections::Shared), job, usage).await,
            #[cfg(feature = "compare")]
            Self::VoloPool => callers::call(volo::connect(address, 1, volo::Connections::Pooled), job, usage).await,
            Self::Bare => bare::run(address, job, usage).await,
        }
    }

    /// Opens `count` connections, each of which has carried a call.
    pub(crate) async fn open(self, address: SocketAddr, count: usize) -> Result<Held, Failure> {
        match self {
            Self::Msnb => used(client::connect(address, count).await?).await,
            Self::MsnbBytes => used(msnb_bytes::connect(address, count).await?).await,
            #[cfg(feature = "compare")]
            Self::Tarpc => used(tarpc::connect(address, count).await?).await,
            #[cfg(feature = "compare")]
            Self::Tonic => used(tonic::connect(address, count).await?).await,
            #[cfg(feature = "compare")]
            Self::Volo => used(volo::connect(address, count, volo::Connections::Shared)).await,
            #[cfg(feature = "compare")]
            Self::VoloPool => used(volo::connect(address, count, volo::Connections::Pooled)).await,
            Self::Bare => bare::open(address, count).await,
        }
    }

    /// Whether it makes calls, so that they can begin at a rate.
    pub(crate) fn calls(self) -> bool {
        self != Self::Bare
    }
}

/// All the connections of a comparison come from one address.
fn many_connections() -> ServerConfig {
    let config = ServerConfig::default();
    let many = config.max_connections;
    config.with_max_connections_per_ip(many)
}

/// Listens, and says where.
async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await?;
    server::announce(&listener.local_addr()?.to_string())?;
    Ok(listener)
}

/// Makes one call over each.
async fn used<L: Link>(links: Vec<L>) -> Result<Held, Failure> {
    let sample = Sample::new(32);
    for link in &links {
        link.echo(0, &sample).await?;
    }
    Ok(links.into_iter().map(|link| Box::new(link) as Box<dyn Any + Send>).collect())
}

/// Connects without Nagle's delay.
async fn dial(address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Accepts without Nagle's delay.
async fn accept(listener: &TcpListener) -> Result<TcpStream, Failure> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
