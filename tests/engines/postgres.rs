//! [`PostgresServer`]: a real PostgreSQL, which a test can kill and restart.
//!
//! The environment variable `POSTGRES_BIN` names the directory of the binaries; the default is the newest
//! `/usr/lib/postgresql/*/bin`.

use std::{
    fs::File,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::process::Signal;

use super::{command_as, directory_of, kill, signal, signal_one, spawn, succeed, until_serving};
use crate::relay::free_address;

/// A server on a free port of this machine. Dropping it ends the process and removes the data.
///
/// Every method panics on failure, because a test cannot continue.
pub struct PostgresServer {
    binaries: PathBuf,
    address: SocketAddr,
    data: tempfile::TempDir,
    options: Vec<String>,
    process: Option<Child>,
}

impl PostgresServer {
    /// Starts a server, and waits until it serves; prints a line and returns `None` if the machine has no PostgreSQL.
    pub async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// Starts a server with settings in the form `name=value`.
    pub async fn start_with(settings: &[&str]) -> Option<Self> {
        let Some(binaries) = binaries() else {
            eprintln!("SKIPPED with PostgreSQL: no directory has `initdb`; Debian package: postgresql");
            return None;
        };
        let data = directory_of(USER);
        let mut initdb = command_as(USER, &binaries.join("initdb"));
        initdb.args(["--username", ROLE, "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]);
        succeed(initdb.current_dir("/").arg("--pgdata").arg(data.path().join("data")));
        // Tests with network namespaces connect from other addresses.
        let rule = File::options().append(true).open(data.path().join("data/pg_hba.conf"));
        let rule = rule.and_then(|mut file| file.write_all(b"host all all 0.0.0.0/0 trust\n"));
        rule.expect("the rules can be written");
        let options = settings.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]).collect();
        let mut server = Self { binaries, address: free_address(), data, options, process: None };
        server.restart().await;
        Some(server)
    }

    /// Returns the URL of the database.
    pub fn url(&self) -> String {
        format!("postgres://{ROLE}@{}/postgres", self.address)
    }

    /// Returns the URL at another address of this machine, if the setting `listen_addresses` permits it.
    pub fn url_at(&self, host: impl Into<IpAddr>) -> String {
        format!("postgres://{ROLE}@{}/postgres", SocketAddr::new(host.into(), self.address.port()))
    }

    /// Kills all processes of the server, like a crash.
    pub fn kill(&mut self) {
        kill(&mut self.process);
    }

    /// Suspends the server with SIGSTOP: its connections stay open and unresponsive.
    pub fn pause(&self) {
        signal(self.process.as_ref().expect("the server runs"), Signal::STOP);
    }

    /// Resumes the server after [`pause`](Self::pause).
    pub fn resume(&self) {
        signal(self.process.as_ref().expect("the server runs"), Signal::CONT);
    }

    /// Kills the server if it runs, starts it with its data on the same port, and waits until it serves.
    pub async fn restart(&mut self) {
        self.kill();
        let mut command = command_as(USER, &self.binaries.join("postgres"));
        command
            .current_dir("/")
            .arg("-D")
            .arg(self.data.path().join("data"))
            .args(["-h", &self.address.ip().to_string(), "-p", &self.address.port().to_string()])
            .args(["-c", "unix_socket_directories="])
            .args(&self.options);
        let log = self.data.path().join("log");
        let mut process = spawn(&mut command, &log);
        until_serving(async || {
            // The server ends at once while a process of the killed one still uses its shared memory.
            if process.try_wait().expect("the server is a child process").is_some() {
                process = spawn(&mut command, &log);
            }
            let mut probe = Command::new(self.binaries.join("pg_isready"));
            probe.args(["-q", "-h", &self.address.ip().to_string(), "-p", &self.address.port().to_string()]);
            probe.stdin(Stdio::null()).status().is_ok_and(|status| status.success())
        })
        .await;
        self.process = Some(process);
    }

    /// Executes SQL as a client; returns the rows, one per line with tabs between the values.
    pub fn query(&self, sql: &str) -> String {
        let mut psql = Command::new(self.binaries.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-c", sql, &self.url()]);
        succeed(&mut psql)
    }

    /// Returns the log of the server.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join("log")).expect("the log can be read")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // An immediate shutdown: unlike a killed server, it waits for the end of its child processes.
            signal(&process, Signal::CONT);
            signal_one(process.id(), Signal::QUIT);
            process.wait().expect("cannot wait for a server that ends");
        }
    }
}

/// Returns the directory of the newest version.
fn binaries() -> Option<PathBuf> {
    if let Some(directory) = std::env::var_os("POSTGRES_BIN") {
        return Some(directory.into()).filter(|directory: &PathBuf| directory.join("initdb").is_file());
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.filter_map(|entry| Some(entry.ok()?.path())).max_by_key(version)?;
    Some(newest.join("bin")).filter(|directory| directory.join("initdb").is_file())
}

/// The user of the operating system who runs the server instead of root.
const USER: &str = "postgres";
/// The role in the database.
const ROLE: &str = "im";
