//! [`Provider`]: a provider in a child process; [`FaultServer`]: the program of that process.

use std::{io::BufRead as _, net::SocketAddr, process::Stdio, time::Duration};

use rustix::process::Signal;
use tokio::net::TcpListener;

use super::{delay, peers::FaultPeer};
use crate::{
    compare::child::{Server, name, this_program},
    failure::Failure,
    server,
};

/// A provider in a child process. Dropping it kills the process.
pub(super) struct Provider {
    server: Server,
    address: SocketAddr,
}

impl Provider {
    /// Starts a provider at this address, or at a free port.
    pub(super) fn start(peer: FaultPeer, address: Option<SocketAddr>) -> Result<Self, Failure> {
        let address = address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut command = this_program()?;
        command.args(["fault-server", &name(peer), &address.to_string()]).stdin(Stdio::piped());
        let server = Server::start(&mut command)?;
        Ok(Self { address: server.address().parse()?, server })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        self.server.signal(signal)
    }

    /// Sets the additional duration of each call.
    pub(super) fn delay(&mut self, delay: Duration) -> Result<(), Failure> {
        self.server.send(&delay.as_millis().to_string())
    }

    /// Starts the provider again at its address, whether or not its process has ended.
    pub(super) fn restart(&mut self, peer: FaultPeer) -> Result<(), Failure> {
        self.server.kill()?;
        *self = Self::start(peer, Some(self.address))?;
        Ok(())
    }
}

/// Serves `bench.Echo` until SIGTERM. Each line of the standard input sets the duration of calls, in ms.
#[derive(Debug, clap::Args)]
pub(crate) struct FaultServer {
    peer: FaultPeer,
    address: SocketAddr,
}

impl FaultServer {
    /// Serves until SIGTERM.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        std::thread::spawn(|| {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                delay::set(line.trim().parse().unwrap_or(0));
            }
            // The parent process has ended.
            std::process::exit(0);
        });
        let listener = TcpListener::bind(self.address).await?;
        server::announce(&listener.local_addr()?.to_string())?;
        self.peer.serve(listener).await
    }
}
