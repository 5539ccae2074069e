//! [`Besieged`]: a server in its own process with limited resources.

use std::{fs, net::SocketAddr, path::Path, process::Stdio};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::in_time;

/// A process of `tests-besieged`, which serves `test.Wire:1.0`. Dropping the value kills the process.
///
/// # Panics
///
/// Every method panics if it fails.
#[derive(Debug)]
pub struct Besieged {
    process: Child,
    address: SocketAddr,
}

impl Besieged {
    /// Starts the program `binary` on a free port of this machine.
    ///
    /// `files` are a certificate, its key and a file of tokens, or empty for plain text without tokens.
    pub async fn start(binary: &str, files: &[&Path]) -> Self {
        Self::run(Command::new(binary), files).await
    }

    /// As [`start`](Self::start); the process also serves HTTP and gRPC.
    pub async fn start_with_http(binary: &str, files: &[&Path]) -> Self {
        let mut command = Command::new(binary);
        command.env("BESIEGED_HTTP", "1");
        Self::run(command, files).await
    }

    async fn run(mut command: Command, files: &[&Path]) -> Self {
        command.arg("0.0.0.0:0").args(files).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("the process starts");
        let mut output = BufReader::new(process.stdout.take().expect("the output is a pipe")).lines();
        let line = in_time(output.next_line()).await.expect("the output is text").expect("it prints its address");
        let any: SocketAddr = line.parse().expect("the line is an address");
        Self { process, address: SocketAddr::from(([127, 0, 0, 1], any.port())) }
    }

    /// Returns the server's address on 127.0.0.1; it listens on all addresses of this machine.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Limits `resource` to `most` from now on.
    pub fn limit(&self, resource: Resource, most: u64) {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        prlimit(Some(self.pid()), resource, limit).expect("the limit is lowered");
    }

    /// Returns the number of open file descriptors.
    pub fn descriptors(&self) -> u64 {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the process is running").count() as u64
    }

    /// Returns the resident memory in bytes.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Returns the peak of the resident memory in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Panics if the process has ended.
    pub fn assert_running(&mut self) {
        assert_eq!(self.process.try_wait().expect("the status is available"), None, "the process is running");
    }

    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process is running");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the field exists");
        line.trim().strip_suffix(" kB").and_then(|count| count.parse::<u64>().ok()).expect("the field is in kB") << 10
    }

    fn pid(&self) -> Pid {
        let id = self.process.id().expect("the process has not been reaped");
        i32::try_from(id).ok().and_then(Pid::from_raw).expect("the process id is valid")
    }
}
