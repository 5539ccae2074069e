//! [`RedisServer`]: a real Redis for one test, which can be killed and restarted.
//!
//! It is the binary that `REDIS_BIN` names, else the `redis-server` on the path.

use std::{
    ffi::OsString,
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

use crate::{in_time, process, relay::free_address};

/// A server on a free port of this machine, which keeps nothing when it is killed. It ends when this is dropped.
///
/// Every method panics when it fails: a test has nothing else to do then.
pub struct RedisServer {
    binary: OsString,
    address: SocketAddr,
    data: tempfile::TempDir,
    process: Option<Child>,
}

impl RedisServer {
    /// Starts a server, and returns once it serves; `None`, and a line that says so, where there is no `redis-server` on the path.
    pub async fn start() -> Option<Self> {
        let binary = std::env::var_os("REDIS_BIN").unwrap_or_else(|| PROGRAM.into());
        if let Err(error) = Command::new(&binary).arg("--version").stdout(Stdio::null()).status() {
            let binary = binary.display();
            eprintln!(
                "SKIPPED with Redis: `{binary}` does not start ({error}); Debian has it in the package redis-server"
            );
            return None;
        }
        let data = tempfile::tempdir().expect("a directory can be made");
        let mut server = Self { binary, address: free_address(), data, process: None };
        server.restart().await;
        Some(server)
    }

    /// The URL for `--redis`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Ends the process as a crash would.
    pub fn kill(&mut self) {
        process::kill(&mut self.process);
    }

    /// Starts the process on the same port, empty, after it was killed if it lives; and returns once it serves.
    pub async fn restart(&mut self) {
        self.kill();
        let log = File::create(self.data.path().join("log")).expect("a log can be written");
        let mut command = Command::new(&self.binary);
        command
            .args(["--bind", &self.address.ip().to_string(), "--port", &self.address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(self.data.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be had twice"))
            .stderr(log);
        self.process = Some(command.spawn().expect("the server starts"));
        in_time(async {
            while self.ask("PING").await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// The answer to a command without spaces in its arguments, as the server writes it.
    pub async fn ask(&self, command: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.address.port())).await?;
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        answer.strip_suffix("+OK\r\n").map(str::to_owned).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

const PROGRAM: &str = "redis-server";
