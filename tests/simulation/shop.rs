//! [`Shop`]: a simulated server, and beside it impostors that a wrong list leads to.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use rand::{Rng, rngs::SmallRng};
use rpc_server::{Server, ServerConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
    task::JoinSet,
};
use turmoil::net::{TcpListener, TcpStream};

use super::{
    contract::{ArchiveServer, Clerk, LedgerServer, Which},
    history::History,
    meddler::{Meddlers, Tampering},
    network::Listener,
    registry::FakeRegistry,
};

/// A simulated server; it may be started many times.
pub(crate) struct Shop {
    /// Where it is reached.
    pub(crate) address: SocketAddr,
    /// What it serves.
    pub(crate) services: Vec<Which>,
    /// Its numbers.
    pub(crate) config: ServerConfig,
    /// What meddlers do to its answers.
    pub(crate) tampering: Tampering,
    /// Where it announces itself.
    pub(crate) registry: Arc<FakeRegistry>,
    /// Where what happens is written down.
    pub(crate) history: Arc<History>,
    /// Asks it to leave.
    pub(crate) closing: Notify,
    /// Kills it.
    pub(crate) killing: Notify,
    /// What chance it gives its meddlers.
    pub(crate) chance: Mutex<SmallRng>,
}

/// The port that servers listen on.
pub(crate) const PORT: u16 = 7000;

impl Shop {
    /// The addresses on a server's machine at which nobody serves anything.
    pub(crate) fn impostors(ip: IpAddr) -> impl Iterator<Item = SocketAddr> {
        [NOBODY, CLOSES, SILENT, BABBLES].into_iter().map(move |port| SocketAddr::new(ip, port))
    }

    /// Serves until it is asked to leave, or killed.
    ///
    /// It is killed from within: turmoil's own crash drops the tasks of a runtime in an order that depends on how many tasks
    /// this process had before, and the order in which sockets close is an event of the simulation.
    pub(crate) async fn open(self: Arc<Self>) -> turmoil::Result {
        tokio::select! {
            biased;
            () = self.killing.notified() => Ok(()),
            served = self.serve() => served,
        }
    }

    async fn serve(&self) -> turmoil::Result {
        let seed = self.chance.lock().unwrap_or_else(PoisonError::into_inner).next_u64();
        let meddlers = Arc::new(Meddlers::new(seed));
        let mut impostors = JoinSet::new();
        for port in [CLOSES, SILENT, BABBLES] {
            impostors.spawn(impersonate(TcpListener::bind(("0.0.0.0", port)).await?));
        }
        let history = Arc::clone(&self.history);
        let listener = Listener::bind(PORT, Arc::clone(&meddlers), self.tampering, history).await?;
        let mut server = Server::builder()
            .registry(Arc::clone(&self.registry) as _)
            .advertise(self.address)
            .config(self.config.clone());
        for which in &self.services {
            let clerk = Clerk { history: Arc::clone(&self.history), server: self.address, which: *which };
            server = match which {
                Which::Ledger => server.service(LedgerServer::new(clerk)),
                Which::Archive => server.service(ArchiveServer::new(clerk)),
            };
        }
        server.listen(listener).await?.run_until(self.closing.notified()).await?;
        Ok(())
    }
}

async fn impersonate(listener: TcpListener) {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let mut victims = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while victims.try_join_next().is_some() {}
        if port != CLOSES {
            victims.spawn(entertain(stream, port == BABBLES));
        }
    }
}

async fn entertain(mut stream: TcpStream, babbles: bool) {
    let mut heard = [0; 256];
    while let Ok(1..) = stream.read(&mut heard).await {
        if babbles && stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.is_err() {
            return;
        }
    }
}

/// Nobody listens.
const NOBODY: u16 = 7100;
/// Somebody accepts, and closes at once.
const CLOSES: u16 = 7101;
/// Somebody accepts, and says nothing.
const SILENT: u16 = 7102;
/// Somebody speaks another protocol.
const BABBLES: u16 = 7103;
