//! `msnb-threads`: a server and clients with a thread, and a runtime, for each core.

use std::{net::SocketAddr, thread};

use rpc_client::Client;
use rpc_server::{Server, ServerConfig};
use tokio::runtime::{Builder, Handle};

use crate::{
    client,
    echo::{EchoClient, EchoServer, EchoService},
    failure::Failure,
    link::{Link, Sample},
    server,
};

/// The number of threads of a process, as many as the others have workers.
const THREADS: usize = 2;

/// A proxy whose client belongs to one thread.
#[derive(Clone)]
pub(crate) struct ThreadLink {
    proxy: EchoClient<Client>,
    runtime: Handle,
}

/// Serves the echo service until SIGTERM or Ctrl-C.
pub(crate) async fn serve(address: SocketAddr, config: ServerConfig) -> Result<(), Failure> {
    let server = Server::builder().service(EchoServer::new(EchoService)).config(config);
    server::run(server.threads(THREADS), address).await
}

/// Creates `count` proxies, each over its own client, distributed over threads that run until the process ends.
pub(crate) async fn connect(address: SocketAddr, count: usize) -> Result<Vec<ThreadLink>, Failure> {
    let runtimes = (0..THREADS).map(|_| start_thread()).collect::<Result<Vec<_>, _>>()?;
    let proxies = client::connect(address, count).await?.into_iter();
    Ok(proxies.zip(runtimes.into_iter().cycle()).map(|(proxy, runtime)| ThreadLink { proxy, runtime }).collect())
}

fn start_thread() -> Result<Handle, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

impl Link for ThreadLink {
    async fn echo(&self, id: u64, sample: &Sample) -> Result<(), Failure> {
        Link::echo(&self.proxy, id, sample).await
    }

    fn runtime(&self) -> Handle {
        self.runtime.clone()
    }
}
