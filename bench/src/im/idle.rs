//! `im-bench idle`: sessions that do nothing, and what each costs.

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
    Failure,
    nodes::{Cluster, Nodes},
    talker::enter,
};

/// How many sessions.
#[derive(Debug, clap::Args)]
pub(crate) struct Idle {
    /// How many sessions at each node.
    #[arg(long, value_name = "N", default_value = "10000")]
    sessions: usize,
    #[command(flatten)]
    cluster: Cluster,
}

/// Sessions at one node, held until the input ends.
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
        // What the first sessions make a process set up once is not counted.
        let first = hold(&nodes, 0, FIRST, None).await?;
        settle(&nodes, FIRST * nodes.len()).await?;
        let before = nodes.resident()?;
        let progress = ProgressBar::new(all as u64);
        let held = hold(&nodes, FIRST, self.sessions, Some(&progress)).await?;
        progress.finish_and_clear();
        settle(&nodes, (FIRST + self.sessions) * nodes.len()).await?;
        let after = nodes.resident()?;
        println!("| nodes | sessions | RSS of all nodes before | after | for each session |");
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
            // Another address of this machine for every so many: each has its own ports.
            let host = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + (number / SESSIONS_AN_ADDRESS) as u32);
            let nodes = vec![format!("ws://{host}:{}/ws", self.port)];
            let logged_in = LoggedIn { token: claims.sign(&secret), nodes };
            entering.spawn(async move { enter(&logged_in).await });
            if entering.len() >= AT_ONCE
                && let Some(entered) = entering.join_next().await
            {
                lines.push(entered??);
                if lines.len().is_multiple_of(TOLD) {
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

/// Sessions at all nodes, each node's in a process of its own.
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
        let mut said = BufReader::new(process.stdout.take().ok_or("no output")?).lines();
        loop {
            let line = said.next_line().await?.ok_or("not all sessions could be opened")?;
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

/// Waits until what logging in has left behind is done; says whether all sessions are there.
async fn settle(nodes: &Nodes, sessions: usize) -> Result<(), Failure> {
    sleep(SETTLE).await;
    match nodes.metric("im_sessions").await? {
        there if there == sessions as u64 => Ok(()),
        there => Err(format!("{there} of {sessions} sessions are there").into()),
    }
}

const FIRST: usize = 200;
const AT_ONCE: usize = 64;
const TOLD: usize = 500;
const SESSIONS_AN_ADDRESS: usize = 20_000;
/// Longer than others wait before they are told that somebody came.
const SETTLE: Duration = Duration::from_secs(8);
