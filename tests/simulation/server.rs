//! [`SimServer`]: a simulated server, and on the same machine the impostors to which wrong lists refer.

use std::{
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use rand::{Rng, rngs::SmallRng};
use rpc_server::{Server, ServerConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
    task::JoinSet,
};
use turmoil::net::TcpListener;

use super::{
    contract::{ArchiveServer, LedgerServer, OutdatedLedgerServer, RecordingService},
    history::History,
    network::Listener,
    registry::{FakeRegistry, ServerView},
    services::SimService,
    sockets::{Socket, Sockets},
    tampering::{Tampering, TamperingProxies},
};

/// A simulated server, which can be started repeatedly.
pub(crate) struct SimServer {
    /// Address of the server.
    pub(crate) address: SocketAddr,
    /// Services of the server.
    pub(crate) services: Vec<SimService>,
    /// Whether the server serves an incompatible contract of the first service.
    pub(crate) is_outdated: bool,
    /// Configuration of the server.
    pub(crate) config: ServerConfig,
    /// Faults of the server's answers.
    pub(crate) tampering: Tampering,
    /// Registry in which the server registers.
    pub(crate) registry: Arc<FakeRegistry>,
    /// Records the events.
    pub(crate) history: Arc<History>,
    /// Starts the drain.
    pub(crate) drain_signal: Notify,
    /// Kills the server.
    pub(crate) kill_signal: Notify,
    /// Announces that the runtime of the server shuts down after this tick.
    pub(crate) shutdown_signal: Notify,
    /// The open sockets of the machine.
    pub(crate) sockets: Arc<Sockets>,
    /// Source of the seeds of the tampering proxies.
    pub(crate) rng: Mutex<SmallRng>,
}

/// Port of the servers.
pub(crate) const PORT: u16 = 7000;

impl SimServer {
    /// Returns the addresses on a server's machine at which no msnb server listens.
    pub(crate) fn impostors(ip: IpAddr) -> impl Iterator<Item = SocketAddr> {
        [UNUSED_PORT, CLOSING_PORT, UNRESPONSIVE_PORT, HTTP_PORT].into_iter().map(move |port| SocketAddr::new(ip, port))
    }

    /// Serves until it is drained or killed, or its runtime shuts down.
    ///
    /// A kill drops the server's future. Before the shutdown of the runtime, the sockets of the machine close in a
    /// defined order, and no task continues that waits for them.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        let registry = Arc::new(ServerView::new(Arc::clone(&self.registry)));
        let mut served = pin!(self.serve(&registry));
        let is_killed = tokio::select! {
            biased;
            () = self.kill_signal.notified() => true,
            () = self.shutdown_signal.notified() => false,
            served = &mut served => return served,
        };
        registry.cut_off();
        if is_killed {
            return Ok(());
        }
        self.sockets.close_all();
        std::future::pending().await
    }

    async fn serve(&self, registry: &Arc<ServerView>) -> turmoil::Result {
        let seed = self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64();
        let proxies = Arc::new(TamperingProxies::new(seed));
        let mut impostors = JoinSet::new();
        for port in [CLOSING_PORT, UNRESPONSIVE_PORT, HTTP_PORT] {
            let listener = TcpListener::bind(("0.0.0.0", port)).await?;
            impostors.spawn(run_impostor(listener, Arc::clone(&self.sockets)));
        }
        let (sockets, history) = (Arc::clone(&self.sockets), Arc::clone(&self.history));
        let listener = Listener::bind(PORT, sockets, Arc::clone(&proxies), self.tampering, history).await?;
        let mut server =
            Server::builder().registry(Arc::clone(registry) as _).advertise(self.address).config(self.config.clone());
        for service in &self.services {
            let implementation =
                RecordingService { history: Arc::clone(&self.history), server: self.address, service: *service };
            server = match service {
                SimService::Ledger if self.is_outdated => server.service(OutdatedLedgerServer::new(implementation)),
                SimService::Ledger => server.service(LedgerServer::new(implementation)),
                SimService::Archive => server.service(ArchiveServer::new(implementation)),
            };
        }
        server.listen(listener).await?.run_until(self.drain_signal.notified()).await?;
        Ok(())
    }
}

async fn run_impostor(listener: TcpListener, sockets: Arc<Sockets>) {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if port != CLOSING_PORT {
            connections.spawn(handle_connection(sockets.add(stream), port == HTTP_PORT));
        }
    }
}

async fn handle_connection(mut stream: Socket, answers: bool) {
    let mut buffer = [0; 256];
    while let Ok(1..) = stream.read(&mut buffer).await {
        if answers && stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.is_err() {
            return;
        }
    }
}

/// Port without a listener.
const UNUSED_PORT: u16 = 7100;
/// Port whose listener closes each connection immediately.
const CLOSING_PORT: u16 = 7101;
/// Port whose listener accepts connections and sends nothing.
const UNRESPONSIVE_PORT: u16 = 7102;
/// Port of an HTTP server.
const HTTP_PORT: u16 = 7103;
