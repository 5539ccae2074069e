//! [`NatsServer`]: a real NATS server, which a test can kill and restart.
//!
//! The environment variable `NATS_BIN` names the binary; the default is `nats-server` on the path.

use std::{
    ffi::OsString,
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use tokio::{io::AsyncReadExt as _, net::TcpStream};

use super::{log_to, skip, until_serving};
use crate::{process, relay::free_address};

/// A server on a free port of this machine. Dropping it kills the process.
///
/// Every method panics on failure, because a test cannot continue.
pub struct NatsServer {
    binary: OsString,
    address: SocketAddr,
    data: tempfile::TempDir,
    process: Option<Child>,
}

impl NatsServer {
    /// Starts a server with the user `im` and the password `secret`, and waits until it serves.
    ///
    /// Prints a line and returns `None` if the machine has no `nats-server`.
    pub async fn start() -> Option<Self> {
        let binary = std::env::var_os("NATS_BIN").unwrap_or_else(|| PROGRAM.into());
        if let Err(error) = Command::new(&binary).arg("--version").stdout(Stdio::null()).status() {
            skip("NATS", &format!("`{}` does not start ({error})", binary.display()), "nats-server");
            return None;
        }
        let data = tempfile::tempdir().expect("the data directory can be created");
        let mut server = Self { binary, address: free_address(), data, process: None };
        server.restart().await;
        Some(server)
    }

    /// Returns the URL with the password.
    pub fn url(&self) -> String {
        format!("nats://im:secret@{}", self.address)
    }

    /// Returns the address on which the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills the process like a crash.
    pub fn kill(&mut self) {
        process::kill(&mut self.process);
    }

    /// Kills the process if it runs, starts it on the same port, and waits until it serves.
    pub async fn restart(&mut self) {
        self.kill();
        let mut command = Command::new(&self.binary);
        command
            .args(["--addr", &self.address.ip().to_string(), "--port", &self.address.port().to_string()])
            .args(["--user", "im", "--pass", "secret"])
            .current_dir(self.data.path());
        log_to(&mut command, self.data.path());
        self.process = Some(command.spawn().expect("the server starts"));
        let address = self.address;
        until_serving(async || {
            let Ok(mut stream) = TcpStream::connect(address).await else { return false };
            let mut greeting = [0; 4];
            stream.read_exact(&mut greeting).await.is_ok() && greeting == *b"INFO"
        })
        .await;
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

const PROGRAM: &str = "nats-server";
