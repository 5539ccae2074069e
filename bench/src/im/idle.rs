//! `im-bench idle`: the memory of idle sessions.

use std::{
    env,
    net::Ipv4Addr,
    path::PathBuf,
    process::Stdio,
    time::{Duration, SystemTime},
};

use indicatif::ProgressBar;
use rpc_im::{
    auth::{Claims, Secret},
    client::{Line, LoggedIn},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinSet,
    time::sleep,
};

use crate::{
    failure::Failure,
    nodes::{Cluster, Nodes},
    talker::enter,
};

/// The options of `im-bench idle`.
#[derive(Debug, clap::Args)]
pub(crate) struct Idle {
    /// The number of sessions per node.
    #[arg(long, value_name = "N", default_value = "10000")]
    sessions: usize,
    #[command(flatten)]
    cluster: Cluster,
}

/// A child process that holds sessions at one node until its input ends.
#[derive(Debug, clap::Args)]
pub(crate) struct Hold {
    #[arg(long)]
    secret: PathBuf,
    #[arg(long)]
    port: u16,
    #[arg(long)]
    first: usize,
    #[arg(long)]
    count: usize,
}

impl Idle {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let nodes = self.cluster.start().await?;
        let all = self.sessions * nodes.len();
        // The first sessions also cause one-time allocations, which the measurement excludes.
        let first = hold(&nodes, 0, WARM_UP_SESSIONS, None).await?;
        settle(&nodes, WARM_UP_SESSIONS * nodes.len()).await?;
        let before = nodes.resident()?;
        let progress = ProgressBar::new(all as u64);
        let held = hold(&nodes, WARM_UP_SESSIONS, self.sessions, Some(&progress)).await?;
        progress.finish_and_clear();
        settle(&nodes, (WARM_UP_SESSIONS + self.sessions) * nodes.len()).await?;
        let after = nodes.resident()?;
        println!("| nodes | sessions | RSS of all nodes before | after | per session |");
        println!("|--:|--:|--:|--:|--:|");
        let each = (after - before) as f64 / all as f64 / 1024.0;
        let (before, after) = (before >> 20, after >> 20);
        println!("| {} | {all} | {before} MiB | {after} MiB | {each:.2} KiB |", nodes.len());
        drop((first, held));
        Ok(())
    }
}

impl Hold {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let secret = Secret::read(&self.secret)?;
        let mut lines = Vec::<Line>::with_capacity(self.count);
        let mut entering = JoinSet::new();
        for number in self.first..self.first + self.count {
            let user = format!("idle-{}-{number}", self.port);
            let claims = Claims::lasting(user, "bench".to_owned(), "bench".to_owned(), SystemTime::now());
            // A further loopback address for every 20 000 sessions, because each address has its own port range.
            let host = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + (number / SESSIONS_PER_ADDRESS) as u32);
            let nodes = vec![format!("ws://{host}:{}/ws", self.port)];
            let logged_in = LoggedIn { token: claims.sign(&secret), nodes };
            entering.spawn(async move { enter(&logged_in).await });
            if entering.len() >= MAX_CONCURRENT_LOGINS
                && let Some(entered) = entering.join_next().await
            {
                lines.push(entered??);
                if lines.len().is_multiple_of(PROGRESS_STEP) {
                    println!("{}", lines.len());
                }
            }
        }
        while let Some(entered) = entering.join_next().await {
            lines.push(entered??);
        }
        println!("all");
        tokio::io::stdin().read_u8().await.map_or(Ok(()), |_| Ok(()))
    }
}

/// Opens sessions at all nodes, with one child process per node.
async fn hold(
    nodes: &Nodes,
    first: usize,
    count: usize,
    progress: Option<&ProgressBar>,
) -> Result<Vec<Child>, Failure> {
    let mut held = Vec::new();
    for number in 0..nodes.len() {
        let mut process = Command::new(env::current_exe()?)
            .arg("hold")
            .arg("--secret")
            .arg(nodes.secret_path())
            .args(["--port", &nodes.port(number).to_string()])
            .args(["--first", &first.to_string(), "--count", &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut output = BufReader::new(process.stdout.take().ok_or("the child process has no stdout")?).lines();
        loop {
            let line = output.next_line().await?.ok_or("a child process ended before it had opened all sessions")?;
            if line == "all" {
                break;
            }
            if let Some(progress) = progress {
                progress.set_position((number * count) as u64 + line.parse::<u64>()?);
            }
        }
        held.push(process);
    }
    Ok(held)
}

/// Waits until the work caused by the logins has ended, and checks the number of sessions.
async fn settle(nodes: &Nodes, sessions: usize) -> Result<(), Failure> {
    sleep(SETTLE_TIME).await;
    match nodes.metric("im_sessions").await? {
        open if open == sessions as u64 => Ok(()),
        open => Err(format!("{open} of {sessions} sessions are open").into()),
    }
}

const WARM_UP_SESSIONS: usize = 200;
const MAX_CONCURRENT_LOGINS: usize = 64;
const PROGRESS_STEP: usize = 500;
const SESSIONS_PER_ADDRESS: usize = 20_000;
/// Longer than the delay after which nodes notify other users of a login.
const SETTLE_TIME: Duration = Duration::from_secs(8);
