//! [`Peer`]: the compared frameworks, and a limit without a framework.
//!
//! Each framework is configured as its documentation recommends, with `TCP_NODELAY`. All use the same number of
//! connections, tasks and worker threads, and the same contract, in the types of the framework's own generator.

pub(crate) mod bare;
mod bare_call;
mod msnb_bytes;
mod msnb_threads;
mod msnb_undescribed;
pub(crate) mod net;
#[cfg(feature = "compare")]
pub(crate) mod tarpc;
#[cfg(feature = "compare")]
pub(crate) mod tonic;
#[cfg(feature = "compare")]
pub(crate) mod volo;

use std::net::SocketAddr;

use rpc_server::ServerConfig;

use self::net::{OpenConnections, listen};
use crate::{
    callers::{self, Repeats},
    client,
    echo::{EchoServer, EchoService},
    failure::Failure,
    job::Job,
    link::{Link, Sample},
    process::Usage,
    server,
    summary::Summary,
};

/// An implementation of the echo service and its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Peer {
    /// msnb with bincode.
    Msnb,
    /// msnb with payloads of type `Bytes`: long payloads are not copied.
    MsnbBytes,
    /// msnb with a thread, and a runtime, for each core.
    MsnbThreads,
    /// msnb without digests and reflection.
    MsnbUndescribed,
    /// tarpc with bincode.
    #[cfg(feature = "compare")]
    Tarpc,
    /// tonic (gRPC) with prost.
    #[cfg(feature = "compare")]
    Tonic,
    /// volo-thrift with multiplexing, which must be enabled: many calls per connection.
    #[cfg(feature = "compare")]
    Volo,
    /// volo-thrift with its default, a connection pool: one call at a time per connection.
    #[cfg(feature = "compare")]
    VoloPool,
    /// The smallest call API: no deadlines, cancellation, metadata or generated code.
    BareCall,
    /// Echoes frames without RPC: the limit of the machine.
    Bare,
}

impl Peer {
    /// Serves the echo service at `address` until the process is killed.
    pub(crate) async fn serve(self, address: SocketAddr) -> Result<(), Failure> {
        match self {
            Self::Msnb => server::serve_with(EchoServer::new(EchoService), address, single_client_config()).await,
            Self::MsnbBytes => msnb_bytes::serve(address, single_client_config()).await,
            Self::MsnbThreads => msnb_threads::serve(address, single_client_config()).await,
            Self::MsnbUndescribed => msnb_undescribed::serve(address, single_client_config()).await,
            #[cfg(feature = "compare")]
            Self::Tarpc => tarpc::serve(listen(address).await?).await,
            #[cfg(feature = "compare")]
            Self::Tonic => tonic::serve(listen(address).await?).await,
            #[cfg(feature = "compare")]
            Self::Volo => volo::serve(listen(address).await?, volo::Connections::Shared).await,
            #[cfg(feature = "compare")]
            Self::VoloPool => volo::serve(listen(address).await?, volo::Connections::Pooled).await,
            Self::BareCall => bare_call::serve(listen(address).await?).await,
            Self::Bare => bare::serve(listen(address).await?).await,
        }
    }

    /// Runs `job` against the server at `address`.
    pub(crate) async fn run(self, address: SocketAddr, job: &Job, usage: Usage) -> Result<Summary, Failure> {
        let conns = job.conns.get();
        match self {
            Self::Msnb => callers::call(client::connect(address, conns).await?, job, usage).await,
            Self::MsnbBytes => callers::call(msnb_bytes::connect(address, conns).await?, job, usage).await,
            Self::MsnbThreads => callers::call(msnb_threads::connect(address, conns).await?, job, usage).await,
            Self::MsnbUndescribed => callers::call(msnb_undescribed::connect(address, conns).await?, job, usage).await,
            #[cfg(feature = "compare")]
            Self::Tarpc => callers::call(tarpc::connect(address, conns).await?, job, usage).await,
            #[cfg(feature = "compare")]
            Self::Tonic => callers::call(tonic::connect(address, conns).await?, job, usage).await,
            #[cfg(feature = "compare")]
            Self::Volo => callers::call(volo::connect(address, conns, volo::Connections::Shared), job, usage).await,
            #[cfg(feature = "compare")]
            Self::VoloPool => callers::call(volo::connect(address, 1, volo::Connections::Pooled), job, usage).await,
            Self::BareCall => callers::call(bare_call::connect(address, conns).await?, job, usage).await,
            Self::Bare => bare::run(address, job, usage).await,
        }
    }

    /// Makes a fixed number of calls over one connection: `turns` of each of `inflight` tasks.
    pub(crate) async fn repeat(self, address: SocketAddr, repeats: Repeats) -> Result<(), Failure> {
        match self {
            Self::Msnb => callers::repeat(client::connect(address, 1).await?, repeats).await,
            Self::MsnbBytes => callers::repeat(msnb_bytes::connect(address, 1).await?, repeats).await,
            Self::MsnbThreads => callers::repeat(msnb_threads::connect(address, 1).await?, repeats).await,
            Self::MsnbUndescribed => callers::repeat(msnb_undescribed::connect(address, 1).await?, repeats).await,
            #[cfg(feature = "compare")]
            Self::Tarpc => callers::repeat(tarpc::connect(address, 1).await?, repeats).await,
            #[cfg(feature = "compare")]
            Self::Tonic => callers::repeat(tonic::connect(address, 1).await?, repeats).await,
            #[cfg(feature = "compare")]
            Self::Volo => callers::repeat(volo::connect(address, 1, volo::Connections::Shared), repeats).await,
            #[cfg(feature = "compare")]
            Self::VoloPool => callers::repeat(volo::connect(address, 1, volo::Connections::Pooled), repeats).await,
            Self::BareCall => callers::repeat(bare_call::connect(address, 1).await?, repeats).await,
            Self::Bare => Err("bare makes no calls".into()),
        }
    }

    /// Opens `count` connections and makes one call over each.
    pub(crate) async fn open(self, address: SocketAddr, count: usize) -> Result<OpenConnections, Failure> {
        match self {
            Self::Msnb => hold_used(client::connect(address, count).await?).await,
            Self::MsnbBytes => hold_used(msnb_bytes::connect(address, count).await?).await,
            Self::MsnbThreads => hold_used(msnb_threads::connect(address, count).await?).await,
            Self::MsnbUndescribed => hold_used(msnb_undescribed::connect(address, count).await?).await,
            #[cfg(feature = "compare")]
            Self::Tarpc => hold_used(tarpc::connect(address, count).await?).await,
            #[cfg(feature = "compare")]
            Self::Tonic => hold_used(tonic::connect(address, count).await?).await,
            #[cfg(feature = "compare")]
            Self::Volo => hold_used(volo::connect(address, count, volo::Connections::Shared)).await,
            #[cfg(feature = "compare")]
            Self::VoloPool => hold_used(volo::connect(address, count, volo::Connections::Pooled)).await,
            Self::BareCall => hold_used(bare_call::connect(address, count).await?).await,
            Self::Bare => bare::open(address, count).await,
        }
    }

    /// Returns whether the peer makes calls, which an open loop requires.
    pub(crate) fn calls(self) -> bool {
        self != Self::Bare
    }
}

/// Permits as many connections from one address as in total, because all clients of a comparison have the same address.
pub(crate) fn single_client_config() -> ServerConfig {
    let config = ServerConfig::default();
    let max_connections = config.max_connections;
    config.with_max_connections_per_ip(max_connections)
}

/// Makes one call over each link and keeps the links open.
async fn hold_used<L: Link>(links: Vec<L>) -> Result<OpenConnections, Failure> {
    let sample = Sample::new(32);
    for link in &links {
        link.echo(0, &sample).await?;
    }
    Ok(links.into_iter().map(|link| Box::new(link) as Box<dyn std::any::Any + Send>).collect())
}
