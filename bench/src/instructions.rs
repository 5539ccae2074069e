//! `msnb-bench instructions`: the instructions of a call at the client and at the server, counted by valgrind's
//! callgrind.
//!
//! The counts hardly vary between runs and machines, so they reveal changes that are below the noise of time
//! measurements. They exclude the instructions of the kernel.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    compare::child::{self, Server},
    failure::Failure,
    peers::Peer,
};

/// The options of `msnb-bench instructions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Instructions {
    /// The numbers of calls in flight.
    #[arg(long, value_delimiter = ',', value_name = "N", default_values_t = [1, 512])]
    inflight: Vec<usize>,
    /// The payload of each request and reply, in bytes.
    #[arg(long, value_name = "B", default_value = "32")]
    payload: usize,
    /// The peers.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "NAME", default_values_t = [Peer::BareCall, Peer::Msnb])]
    peers: Vec<Peer>,
}

impl Instructions {
    /// Counts instructions and prints a table.
    pub(crate) fn run(self) -> Result<(), Failure> {
        println!("| peer | in flight | instructions per call at the client | at the server |\n|---|--:|--:|--:|");
        for (peer, inflight) in
            self.peers.iter().flat_map(|peer| self.inflight.iter().map(move |number| (*peer, *number)))
        {
            // The difference of two counts excludes startup and shutdown.
            let few = self.count(peer, inflight, CALLS.div_ceil(inflight))?;
            let many = self.count(peer, inflight, (2 * CALLS).div_ceil(inflight))?;
            let calls = (2 * CALLS).div_ceil(inflight) - CALLS.div_ceil(inflight);
            let each = |side: usize| (many[side] - few[side]) / (calls * inflight) as f64;
            println!("| {} | {inflight} | {:.0} | {:.0} |", child::name(peer), each(0), each(1));
        }
        Ok(())
    }

    /// Returns the instructions of a client and of its server, each from start to end.
    fn count(&self, peer: Peer, inflight: usize, turns: usize) -> Result<[f64; 2], Failure> {
        let logs = ["client", "server"]
            .map(|side| std::env::temp_dir().join(format!("msnb-bench-{}-{side}.log", std::process::id())));
        let name = child::name(peer);
        let server = Server::start(counted("peer-server", &logs[1])?.args([&name, "127.0.0.1:0"]))?;
        let job = ["--inflight", "--payload", "--turns"].into_iter().zip([inflight, self.payload, turns]);
        let arguments: Vec<String> = job.map(|(name, value)| format!("{name}={value}")).collect();
        let ended = counted("counted-client", &logs[0])?
            .args([server.address(), &format!("--peer={name}")])
            .args(arguments)
            .status()?;
        if !ended.success() {
            return Err(format!("the client failed: {ended}").into());
        }
        server.stop()?;
        let counts = [collected(&logs[0])?, collected(&logs[1])?];
        logs.iter().try_for_each(fs::remove_file)?;
        Ok(counts)
    }
}

/// Returns a command that runs this program under callgrind.
fn counted(command: &str, log: &Path) -> Result<Command, Failure> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(format!("--log-file={}", log.display())).arg(std::env::current_exe()?).arg(command);
    Ok(valgrind)
}

/// Returns the count at the end of callgrind's log.
fn collected(log: &PathBuf) -> Result<f64, Failure> {
    let text = fs::read_to_string(log)?;
    let count = text.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    count.ok_or_else(|| format!("valgrind printed no count:\n{text}").into())
}

/// The number of counted calls.
const CALLS: usize = 10_240;
