//! A provider whose faults its parent process sets.

use std::{
    io::BufRead,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use rpc_core::{Code, Status, rpc_service};
use rpc_server::{Server, ServerConfig};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use crate::{failure::Failure, server};

#[rpc_service(name = "bench.Route", version = "1.0")]
pub(super) trait Route {
    /// Waits for 5 to 6 ms, or ten times as long.
    #[rpc(idempotent)]
    async fn work(&self, is_heavy: bool) -> Result<(), Status>;
}

/// How a provider fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Fault {
    None,
    /// It answers `Internal` at once.
    Fails,
    /// It never answers.
    Hangs,
    /// It is ten times slower.
    Slow,
}

/// Serves `bench.Route:1.0` until SIGTERM. Each line of the standard input sets the fault.
#[derive(Debug, clap::Args)]
pub(crate) struct RouteProvider {
    address: SocketAddr,
    #[arg(long)]
    registry: String,
    #[arg(long, default_value = "")]
    zone: String,
}

#[derive(Debug, Clone)]
struct Faulty(Arc<AtomicU8>);

impl Fault {
    const ALL: [Self; 4] = [Self::None, Self::Fails, Self::Hangs, Self::Slow];

    pub(super) fn line(self) -> String {
        format!("{self:?}")
    }
}

impl Faulty {
    fn fault(&self) -> Fault {
        Fault::ALL[usize::from(self.0.load(Ordering::Relaxed)) % Fault::ALL.len()]
    }
}

impl Route for Faulty {
    async fn work(&self, is_heavy: bool) -> Result<(), Status> {
        let fault = self.fault();
        let factor = if is_heavy || fault == Fault::Slow { 10 } else { 1 };
        match fault {
            Fault::Fails => return Err(Status::new(Code::Internal, "the provider fails")),
            Fault::Hangs => std::future::pending().await,
            Fault::None | Fault::Slow => sleep(Duration::from_micros(rand::random_range(5000..6000)) * factor).await,
        }
        Ok(())
    }
}

impl RouteProvider {
    /// Serves until SIGTERM.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut terminate = signal(SignalKind::terminate())?;
        let faulty = Faulty(Arc::default());
        let set = Arc::clone(&faulty.0);
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                let fault = Fault::ALL.into_iter().find(|fault| fault.line() == line);
                set.store(fault.map_or(0, |fault| fault as u8), Ordering::Relaxed);
            }
            // The parent process has ended.
            std::process::exit(0);
        });
        let registry = rpc_registry::connect(&self.registry).await?;
        let config = ServerConfig::default().with_drain_notice(Duration::from_millis(500));
        let builder = Server::builder().service(RouteServer::new(faulty)).registry(registry).config(config);
        let builder = if self.zone.is_empty() { builder } else { builder.zone(self.zone) };
        let server = builder.bind(self.address).await?;
        let address = server.local_address().to_string();
        let stopped = async move {
            // Announced when the server runs, so that it is registered soon.
            if server::announce(&address).is_ok() {
                terminate.recv().await;
            }
        };
        Ok(server.run_until(stopped).await?)
    }
}
