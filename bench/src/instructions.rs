//! `msnb-bench instructions`: how many instructions a call takes at either end, counted by valgrind's callgrind.
//!
//! Such counts hardly differ from one run, or machine, to the next, so a change is seen that the noise of times would hide. Those
//! of the kernel are not among them.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use tokio::task::JoinSet;

use crate::{
    Failure, client,
    compare::child::Server,
    link::{Link, Sample},
};

/// What to count.
#[derive(Debug, clap::Args)]
pub(crate) struct Instructions {
    /// Calls in flight.
    #[arg(long, value_delimiter = ',', value_name = "N", default_values_t = [1, 512])]
    inflight: Vec<usize>,
    /// Bytes in each request and each reply.
    #[arg(long, value_name = "B", default_value = "32")]
    payload: usize,
}

/// A number of calls, whatever time they take.
#[derive(Debug, clap::Args)]
pub(crate) struct CountedClient {
    address: SocketAddr,
    #[arg(long)]
    inflight: usize,
    #[arg(long)]
    payload: usize,
    /// How many calls each of those in flight is followed by.
    #[arg(long)]
    turns: u64,
}

impl Instructions {
    /// Counts, and prints a table.
    pub(crate) fn run(self) -> Result<(), Failure> {
        println!("| in flight | instructions a call at the client | at the server |\n|--:|--:|--:|");
        for inflight in &self.inflight {
            // What starting and stopping take is in both counts.
            let few = self.count(*inflight, CALLS.div_ceil(*inflight))?;
            let many = self.count(*inflight, (2 * CALLS).div_ceil(*inflight))?;
            let calls = (2 * CALLS).div_ceil(*inflight) - CALLS.div_ceil(*inflight);
            let each = |side: usize| (many[side] - few[side]) / (calls * inflight) as f64;
            println!("| {inflight} | {:.0} | {:.0} |", each(0), each(1));
        }
        Ok(())
    }

    /// The instructions of a client and of its server, both from start to end.
    fn count(&self, inflight: usize, turns: usize) -> Result<[f64; 2], Failure> {
        let logs = ["client", "server"]
            .map(|side| std::env::temp_dir().join(format!("msnb-bench-{}-{side}.log", std::process::id())));
        let server = Server::start(counted("server", &logs[1])?.arg("127.0.0.1:0"))?;
        let job = ["--inflight", "--payload", "--turns"].into_iter().zip([inflight, self.payload, turns]);
        let arguments: Vec<String> = job.map(|(name, value)| format!("{name}={value}")).collect();
        let ended = counted("counted-client", &logs[0])?.arg(server.address()).args(arguments).status()?;
        if !ended.success() {
            return Err(format!("the client failed: {ended}").into());
        }
        server.stop()?;
        let counts = [collected(&logs[0])?, collected(&logs[1])?];
        logs.iter().try_for_each(fs::remove_file)?;
        Ok(counts)
    }
}

impl CountedClient {
    /// Calls.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let [link] = &client::connect(self.address, 1).await?[..] else { return Err("one link was asked for".into()) };
        let mut callers = JoinSet::new();
        for caller in 0..self.inflight as u64 {
            let (link, sample) = (link.clone(), Sample::new(self.payload));
            callers.spawn(async move {
                for turn in 0..self.turns {
                    Link::echo(&link, caller << 40 | turn, &sample).await?;
                }
                Ok::<_, Failure>(())
            });
        }
        while let Some(ended) = callers.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// This program under callgrind.
fn counted(command: &str, log: &Path) -> Result<Command, Failure> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(format!("--log-file={}", log.display())).arg(std::env::current_exe()?).arg(command);
    Ok(valgrind)
}

/// The count at the end of callgrind's log.
fn collected(log: &PathBuf) -> Result<f64, Failure> {
    let text = fs::read_to_string(log)?;
    let count = text.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    count.ok_or_else(|| format!("valgrind gave no count:\n{text}").into())
}

/// How many calls are counted.
const CALLS: usize = 10_240;
