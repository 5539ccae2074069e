//! [`MariaDbServer`]: a real MariaDB, which a test can kill and restart.
//!
//! The environment variable `MARIADB_BIN` names the server's binary; the default is `mariadbd` on the path.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::Signal;

use super::{command_as, directory_of, kill, signal, spawn, succeed, until_serving};
use crate::relay::free_address;

/// A server on a free port of this machine. Dropping it kills the process and removes the data.
///
/// Every method panics on failure, because a test cannot continue.
pub struct MariaDbServer {
    binary: OsString,
    address: SocketAddr,
    data: tempfile::TempDir,
    options: Vec<String>,
    process: Option<Child>,
}

impl MariaDbServer {
    /// Starts a server, and waits until it serves; prints a line and returns `None` if the machine has no MariaDB.
    pub async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// Starts a server with options in the form `--name=value`.
    pub async fn start_with(options: &[&str]) -> Option<Self> {
        let binary = std::env::var_os("MARIADB_BIN").unwrap_or_else(|| PROGRAM.into());
        for program in [&binary, &OsString::from(INSTALL)] {
            let mut probe = Command::new(program);
            if let Err(error) = probe.arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status() {
                let program = program.display();
                eprintln!("SKIPPED with MariaDB: `{program}` does not start ({error}); Debian package: mariadb-server");
                return None;
            }
        }
        let data = directory_of(USER);
        let mut install = command_as(USER, Path::new(INSTALL));
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        succeed(install.current_dir("/").env(TEMPORARY, data.path()).arg(datadir(&data)));
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Self { binary, address: free_address(), data, options, process: None };
        server.restart().await;
        Some(server)
    }

    /// Returns the URL of the database.
    pub fn url(&self) -> String {
        format!("mysql://root@{}/im", self.address)
    }

    /// Kills the process, like a crash.
    pub fn kill(&mut self) {
        kill(&mut self.process);
    }

    /// Suspends the process with SIGSTOP: its connections stay open and unresponsive.
    pub fn pause(&self) {
        signal(self.process.as_ref().expect("the server runs"), Signal::STOP);
    }

    /// Resumes the process after [`pause`](Self::pause).
    pub fn resume(&self) {
        signal(self.process.as_ref().expect("the server runs"), Signal::CONT);
    }

    /// Kills the process if it runs, starts it with its data on the same port, and waits until it serves.
    pub async fn restart(&mut self) {
        self.kill();
        let start = self.data.path().join("start.sql");
        std::fs::write(&start, "CREATE DATABASE IF NOT EXISTS im;\n").expect("the data directory can be written");
        let mut socket = OsString::from("--socket=");
        socket.push(self.data.path().join("socket"));
        let mut init = OsString::from("--init-file=");
        init.push(&start);
        let mut command = command_as(USER, Path::new(&self.binary));
        command
            .current_dir("/")
            .env(TEMPORARY, self.data.path())
            .arg("--no-defaults")
            .arg(datadir(&self.data))
            .arg(socket)
            .arg(init)
            .arg(format!("--bind-address={}", self.address.ip()))
            .arg(format!("--port={}", self.address.port()))
            .args(&self.options);
        self.process = Some(spawn(&mut command, &self.data.path().join("log")));
        // The server listens after it has executed the file.
        until_serving(async || tokio::net::TcpStream::connect(self.address).await.is_ok()).await;
    }

    /// Executes SQL as a client; returns the rows, one per line with tabs between the values.
    pub fn query(&self, sql: &str) -> String {
        let (ip, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let mut client = Command::new(CLIENT);
        client.args(["--no-defaults", "-B", "-N", "-r", "-h", &ip, "-P", &port, "-u", "root", "-e", sql, "im"]);
        succeed(&mut client)
    }
}

impl Drop for MariaDbServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn datadir(data: &tempfile::TempDir) -> OsString {
    let mut option = OsString::from("--datadir=");
    option.push(data.path().join("data"));
    option
}

const PROGRAM: &str = "mariadbd";
/// The variable for the directory of temporary files. A server that starts removes those of other servers from it.
const TEMPORARY: &str = "TMPDIR";
const CLIENT: &str = "mariadb";
const INSTALL: &str = "mariadb-install-db";
/// The user of the operating system who runs the server instead of root.
const USER: &str = "mysql";
