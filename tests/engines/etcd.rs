//! [`EtcdServer`]: a real etcd, which a test can kill and restart.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{kill, skip, spawn, until_serving};
use crate::relay::free_address;

/// A cluster of one member on free ports of this machine. Dropping it kills the process.
///
/// Every method panics on failure, because a test cannot continue.
pub struct EtcdServer {
    client: SocketAddr,
    peer: SocketAddr,
    data: tempfile::TempDir,
    process: Option<Child>,
}

impl EtcdServer {
    /// Starts a server, and waits until it serves; prints a line and returns `None` if the machine has no etcd.
    pub async fn start() -> Option<Self> {
        if let Err(error) = Command::new(ETCD).arg("--version").output() {
            skip("etcd", &format!("`{ETCD}` does not start ({error})"), "etcd-server");
            return None;
        }
        let data = tempfile::tempdir().expect("the data directory can be created");
        let mut server = Self { client: free_address(), peer: free_address(), data, process: None };
        server.restart().await;
        Some(server)
    }

    /// Returns `etcd://host:port`.
    pub fn url(&self) -> String {
        format!("etcd://{}", self.client)
    }

    /// Kills the process like a crash.
    pub fn kill(&mut self) {
        kill(&mut self.process);
    }

    /// Kills the process if it runs, and removes its data.
    pub fn kill_and_erase(&mut self) {
        self.kill();
        let data = self.directory();
        if data.exists() {
            std::fs::remove_dir_all(data).expect("the data can be removed");
        }
    }

    /// Kills the process if it runs, starts it with its data on the same port, and waits until it serves.
    pub async fn restart(&mut self) {
        self.kill();
        let (client, peer) = (format!("http://{}", self.client), format!("http://{}", self.peer));
        let mut command = Command::new(ETCD);
        command.args(["--name", "test", "--log-level", "warn", "--data-dir"]).arg(self.directory());
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("test={peer}")]);
        // Debian's package does not know some processors.
        command.env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH);
        self.process = Some(spawn(&mut command, &self.data.path().join("log")));
        let address = self.client;
        until_serving(async || {
            let Ok(mut stream) = TcpStream::connect(address).await else { return false };
            let mut answer = String::new();
            stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").await.is_ok()
                && stream.read_to_string(&mut answer).await.is_ok()
                && answer.contains("true")
        })
        .await;
    }

    fn directory(&self) -> std::path::PathBuf {
        Path::join(self.data.path(), "data")
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.kill();
    }
}

const ETCD: &str = "etcd";
