//! [`Besieged`]: a server in a process of its own whose resources are limited.

use std::{fs, net::SocketAddr, process::Stdio};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::in_time;

/// A process of `tests-besieged`, which serves `test.Wire:1.0`. It is killed when this is dropped.
///
/// Every method panics when it fails: a test has nothing else to do then.
#[derive(Debug)]
pub struct Besieged {
    process: Child,
    address: SocketAddr,
}

impl Besieged {
    /// Starts `tests-besieged`, which lies at `binary`, on a free port of this machine.
    pub async fn start(binary: &str) -> Self {
        let mut command = Command::new(binary);
        command.arg("0.0.0.0:0").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("the process starts");
        let mut output = BufReader::new(process.stdout.take().expect("the output is a pipe")).lines();
        let line = in_time(output.next_line()).await.expect("the output is text").expect("it says where it listens");
        let any: SocketAddr = line.parse().expect("it says where it listens");
        Self { process, address: SocketAddr::from(([127, 0, 0, 1], any.port())) }
    }

    /// Where it listens; on all of this machine's own addresses.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets it have no more than this from now on.
    pub fn limit(&self, resource: Resource, most: u64) {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        prlimit(Some(self.pid()), resource, limit).expect("a process may be limited");
    }

    /// How many file descriptors it has open.
    pub fn descriptors(&self) -> u64 {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the process lives").count() as u64
    }

    /// The bytes that it holds in memory.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most bytes that it held at once.
    pub fn most_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Asserts that it has not ended.
    pub fn assert_lives(&mut self) {
        assert_eq!(self.process.try_wait().expect("it can be asked"), None, "the server should live");
    }

    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process lives");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the system tells");
        line.trim().strip_suffix(" kB").and_then(|count| count.parse::<u64>().ok()).expect("a number of kB") << 10
    }

    fn pid(&self) -> Pid {
        let id = self.process.id().expect("it has not been waited for");
        i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process id")
    }
}
