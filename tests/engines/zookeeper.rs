//! [`ZooKeeperServer`]: a real ZooKeeper, which a test can kill and restart.
//!
//! The environment variable `ZOOKEEPER_JAR` names the jar; the default is that of the Debian package.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{log_to, skip, until_serving};
use crate::{process, relay::free_address};

/// A standalone server on a free port of this machine. Dropping it kills the process.
///
/// Every method panics on failure, because a test cannot continue.
pub struct ZooKeeperServer {
    jar: OsString,
    address: SocketAddr,
    data: tempfile::TempDir,
    process: Option<Child>,
}

impl ZooKeeperServer {
    /// Starts a server, and waits until it serves; prints a line and returns `None` if the machine has no ZooKeeper.
    pub async fn start() -> Option<Self> {
        let jar = std::env::var_os("ZOOKEEPER_JAR").unwrap_or_else(|| JAR.into());
        if !Path::new(&jar).exists() {
            skip("ZooKeeper", &format!("{} does not exist", jar.display()), "zookeeper");
            return None;
        }
        if let Err(error) = Command::new(JAVA).arg("-version").stderr(Stdio::null()).status() {
            skip("ZooKeeper", &format!("`{JAVA}` does not start ({error})"), "default-jre-headless");
            return None;
        }
        let data = tempfile::tempdir().expect("the data directory can be created");
        let mut server = Self { jar, address: free_address(), data, process: None };
        server.restart().await;
        Some(server)
    }

    /// Returns `zookeeper://host:port`.
    pub fn url(&self) -> String {
        format!("zookeeper://{}", self.address)
    }

    /// Kills the process like a crash.
    pub fn kill(&mut self) {
        process::kill(&mut self.process);
    }

    /// Kills the process if it runs, and removes its data.
    pub fn kill_and_erase(&mut self) {
        self.kill();
        let data = self.data.path().join(DATA);
        if data.exists() {
            std::fs::remove_dir_all(data).expect("the data can be removed");
        }
    }

    /// Kills the process if it runs, starts it with its data on the same port, and waits until it serves.
    pub async fn restart(&mut self) {
        self.kill();
        let directory = self.data.path();
        let configuration = format!(
            "tickTime=500\ndataDir={}\nclientPort={}\nclientPortAddress={}\nadmin.enableServer=false\n\
             4lw.commands.whitelist=srvr\n",
            directory.join(DATA).display(),
            self.address.port(),
            self.address.ip(),
        );
        std::fs::write(directory.join("zoo.cfg"), configuration).expect("the configuration can be written");
        let mut command = Command::new(JAVA);
        command
            .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(&self.jar)
            .args(["org.apache.zookeeper.server.quorum.QuorumPeerMain", "zoo.cfg"])
            .current_dir(directory);
        log_to(&mut command, directory);
        self.process = Some(command.spawn().expect("the server starts"));
        let address = self.address;
        until_serving(async || {
            let Ok(mut stream) = TcpStream::connect(address).await else { return false };
            let mut answer = String::new();
            stream.write_all(b"srvr").await.is_ok()
                && stream.read_to_string(&mut answer).await.is_ok()
                && answer.contains("Mode: standalone")
        })
        .await;
    }
}

impl Drop for ZooKeeperServer {
    fn drop(&mut self) {
        self.kill();
    }
}

const JAVA: &str = "java";
const JAR: &str = "/usr/share/java/zookeeper.jar";
const DATA: &str = "data";
