//! The demo: streams that outlive their providers.

use std::{
    env,
    path::Path,
    process::{ExitCode, Stdio},
    time::Duration,
};

use msnb::{
    Streaming,
    app::{Failure, RegistryArgs},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{client::client, upload::upload};

/// Runs the demo in processes of this program.
pub(crate) async fn run() -> Result<ExitCode, Failure> {
    let directory = tempfile::Builder::new().prefix("feed-").tempdir()?;
    let mut first = Program::provide(&directory).await?;
    let second = Program::provide(&directory).await?;
    let registry = RegistryArgs { url: registry(&directory) };

    let feed = client(&registry).await?;
    let file = directory.path().join("catalogue");
    std::fs::write(&file, vec![7; UPLOAD])?;
    println!("uploaded {} bytes", upload(&feed, &file).await?.bytes);

    let (ann, said) = Streaming::channel(1);
    let (_bo, silent) = Streaming::channel(1);
    let room = "lobby".to_owned();
    let mut heard = feed.talk(room.clone(), "Bo".into(), silent).affinity(&room).await?;
    let _ann_hears = feed.talk(room.clone(), "Ann".into(), said).affinity(&room).await?;
    ann.send("is there tea?".to_owned()).await?;
    let remark = heard.next().await.transpose()?.ok_or("the room is empty")?;
    println!("Bo hears {}: {}", remark.author, remark.text);

    let count = ITEMS.to_string();
    let mut watch = Program::start(&directory, &["watch", "tea", "--count", &count]).await?;
    watch.until(|line| line.starts_with("item 201:")).await?;
    first.process.kill().await?;
    println!("killed a provider");
    watch.until(|line| line.starts_with("item 801:")).await?;
    let mut third = Program::provide(&directory).await?;
    second.terminate().await?;
    println!("draining the other one, a new one serves");
    let report = watch.until(|line| line.starts_with("items ")).await?;
    let status = timeout(LIMIT, watch.process.wait()).await??;
    third.process.kill().await?;
    println!("{report}");
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn registry(directory: &TempDir) -> String {
    format!("local:{}", directory.path().join("registry").display())
}

/// A process of this program. Dropping it kills the process.
struct Program {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Program {
    async fn start(directory: &TempDir, arguments: &[&str]) -> Result<Self, Failure> {
        let mut process = Command::new(env::current_exe()?)
            .args(arguments)
            .args(["--registry", &registry(directory)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = process.stdout.take().ok_or("the process has no output")?;
        Ok(Self { process, output: BufReader::new(output).lines() })
    }

    /// Starts a provider and waits until it serves.
    async fn provide(directory: &TempDir) -> Result<Self, Failure> {
        let files: &Path = &directory.path().join("files");
        let files = files.to_str().ok_or("the temporary directory is not UTF-8")?;
        let mut provider = Self::start(directory, &["provide", "--files", files]).await?;
        provider.until(|line| line.starts_with("serving")).await?;
        Ok(provider)
    }

    /// Returns the next line that `wanted` accepts.
    async fn until(&mut self, wanted: impl Fn(&str) -> bool) -> Result<String, Failure> {
        timeout(LIMIT, async {
            loop {
                let line = self.output.next_line().await?.ok_or("the process has ended early")?;
                if wanted(&line) {
                    return Ok(line);
                }
            }
        })
        .await?
    }

    /// Tells the process to drain.
    async fn terminate(&self) -> Result<(), Failure> {
        let id = self.process.id().ok_or("the process has ended")?.to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await?;
        if sent.success() { Ok(()) } else { Err("cannot send SIGTERM".into()) }
    }
}

/// The number of prices that the consumer reads: those of 4 s.
const ITEMS: u64 = 2_000;
/// The length of the uploaded file, in bytes.
const UPLOAD: usize = 32 << 20;
/// The longest wait for a process.
const LIMIT: Duration = Duration::from_secs(60);
