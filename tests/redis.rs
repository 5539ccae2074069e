//! [`RedisServer`]: a real Redis, which a test can kill and restart.
//!
//! The environment variable `REDIS_BIN` names the binary; the default is `redis-server` on the path.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

use crate::{in_time, process, relay::free_address};

/// A server on a free port of this machine without persistence. Dropping it kills the process.
///
/// Every method panics on failure, because a test cannot continue.
pub struct RedisServer {
    binary: OsString,
    address: SocketAddr,
    data: tempfile::TempDir,
    options: Vec<String>,
    process: Option<Child>,
}

impl RedisServer {
    /// Starts a server, and waits until it serves; prints a line and returns `None` if the machine has no `redis-server`.
    pub async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// Starts a server that other addresses of this machine reach, in a network namespace of its own.
    pub async fn start_open() -> Option<Self> {
        Self::start_with(&["--bind", "0.0.0.0", "--protected-mode", "no"]).await
    }

    async fn start_with(options: &[&str]) -> Option<Self> {
        let binary = std::env::var_os("REDIS_BIN").unwrap_or_else(|| PROGRAM.into());
        if let Err(error) = Command::new(&binary).arg("--version").stdout(Stdio::null()).status() {
            let binary = binary.display();
            eprintln!("SKIPPED with Redis: `{binary}` does not start ({error}); Debian package: redis-server");
            return None;
        }
        let data = tempfile::tempdir().expect("the data directory can be created");
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Self { binary, address: free_address(), data, options, process: None };
        server.restart().await;
        Some(server)
    }

    /// Returns the URL for `--redis`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Returns the URL at another address of this machine.
    pub fn url_at(&self, host: impl Into<IpAddr>) -> String {
        format!("redis://{}", SocketAddr::new(host.into(), self.address.port()))
    }

    /// Kills the process like a crash.
    pub fn kill(&mut self) {
        process::kill(&mut self.process);
    }

    /// Kills the process if it runs, starts it empty on the same port, and waits until it serves.
    pub async fn restart(&mut self) {
        self.kill();
        let file = self.data.path().join(FILE);
        if file.exists() {
            fs::remove_file(file).expect("the file of the database can be removed");
        }
        self.restart_from_file().await;
    }

    /// Writes the database to the file that [`restart_from_file`](Self::restart_from_file) loads.
    pub async fn save(&self) {
        let answer = self.request("SAVE").await.expect("the server answers");
        assert_eq!(answer, "+OK\r\n");
    }

    /// Kills the process if it runs, starts it with the data of the last [`save`](Self::save), and waits for it.
    pub async fn restart_from_file(&mut self) {
        self.kill();
        let log = File::create(self.data.path().join("log")).expect("the log can be written");
        let mut command = Command::new(&self.binary);
        command
            .args(["--bind", &self.address.ip().to_string(), "--port", &self.address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--dbfilename", FILE, "--dir"])
            .arg(self.data.path())
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log file can be cloned"))
            .stderr(log);
        self.process = Some(command.spawn().expect("the server starts"));
        in_time(async {
            while self.request("PING").await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Returns the answer to an inline command in the wire format of Redis.
    ///
    /// # Errors
    ///
    /// Returns an error if the server does not accept a connection or does not answer.
    pub async fn request(&self, command: &str) -> io::Result<String> {
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
const FILE: &str = "dump.rdb";
