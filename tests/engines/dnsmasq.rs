//! [`DnsServer`]: a real DNS server, dnsmasq, whose records a test can change.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    process::{Child, Command},
};

use tokio::net::UdpSocket;

use super::{kill, skip, spawn, until_serving};
use crate::relay::free_address;

/// A DNS server on a free port of this machine. Dropping it kills the process.
///
/// Every method panics on failure, because a test cannot continue.
pub struct DnsServer {
    address: SocketAddr,
    directory: tempfile::TempDir,
    process: Option<Child>,
}

impl DnsServer {
    /// Starts a server with these lines of configuration, and waits until it serves; prints a line and returns `None` if
    /// the machine has no dnsmasq.
    pub async fn start(records: &[&str]) -> Option<Self> {
        if let Err(error) = Command::new(DNSMASQ).arg("--version").output() {
            skip("dnsmasq", &format!("`{DNSMASQ}` does not start ({error})"), "dnsmasq-base");
            return None;
        }
        let directory = tempfile::tempdir().expect("the directory can be created");
        let mut server = Self { address: free_address(), directory, process: None };
        server.restart(records).await;
        Some(server)
    }

    /// Returns the address of the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        kill(&mut self.process);
    }

    /// Kills the process if it runs, starts it with other records on the same port, and waits until it serves.
    pub async fn restart(&mut self, records: &[&str]) {
        self.kill();
        let mut configuration = format!(
            "port={}\nlisten-address={}\nbind-interfaces\nno-resolv\nno-hosts\nlocal-ttl=1\nlocal=/test/\nuser=root\n\
             pid-file\n",
            self.address.port(),
            self.address.ip(),
        );
        for record in records {
            writeln!(configuration, "{record}").expect("a string can be extended");
        }
        let file = self.directory.path().join("conf");
        std::fs::write(&file, configuration).expect("the configuration can be written");
        let mut command = Command::new(DNSMASQ);
        command.arg("--keep-in-foreground").arg(format!("--conf-file={}", file.display()));
        self.process = Some(spawn(&mut command, &self.directory.path().join("log")));
        let address = self.address;
        until_serving(async || {
            let Ok(socket) = UdpSocket::bind("127.0.0.1:0").await else { return false };
            let mut answer = [0; 512];
            socket.connect(address).await.is_ok()
                && socket.send(QUESTION).await.is_ok()
                && socket.recv(&mut answer).await.is_ok()
        })
        .await;
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

const DNSMASQ: &str = "dnsmasq";
/// A question for the address of `test`.
const QUESTION: &[u8] = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x04test\0\0\x01\0\x01";
