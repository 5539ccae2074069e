//! [`Provider`]: a provider in a child process; [`FaultServer`]: the program of that process.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use clap::ValueEnum as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;

use super::{delay, peers::FaultPeer};
use crate::{failure::Failure, server};

/// A provider in a child process. Dropping it kills the process.
pub(super) struct Provider {
    process: Child,
    address: SocketAddr,
}

impl Provider {
    /// Starts a provider at this address, or at a free port.
    pub(super) fn start(peer: FaultPeer, address: Option<SocketAddr>) -> Result<Self, Failure> {
        let address = address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let name = peer.to_possible_value().ok_or("the peer has no name")?;
        let mut process = Command::new(std::env::current_exe()?)
            .args(["fault-server", name.get_name(), &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("the provider has no stdout")?).read_line(&mut line)?;
        let address = line.trim().rsplit(' ').next().unwrap_or_default().parse()?;
        Ok(Self { process, address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        Ok(kill_process(Pid::from_child(&self.process), signal)?)
    }

    /// Sets the additional duration of each call.
    pub(super) fn delay(&mut self, delay: Duration) -> Result<(), Failure> {
        let stdin = self.process.stdin.as_mut().ok_or("the provider has no stdin")?;
        writeln!(stdin, "{}", delay.as_millis())?;
        Ok(stdin.flush()?)
    }

    /// Starts the provider again at its address, whether or not its process has ended.
    pub(super) fn restart(&mut self, peer: FaultPeer) -> Result<(), Failure> {
        self.process.kill()?;
        self.process.wait()?;
        *self = Self::start(peer, Some(self.address))?;
        Ok(())
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // Both fail if the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
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
