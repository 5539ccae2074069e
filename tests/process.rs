//! Binaries as processes that tests start, signal and wait for.
//!
//! The binaries of the examples and of rpc-im are built once a test process, with the profile and into the target directory of the test that runs.
//! The tests' own `tests-provider`, which serves `test.Ledger:1.0`, is there already: cargo builds it for the tests that name it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
    sync::LazyLock,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
    time::timeout,
};

/// A process of the `provider` binary, or of `tests-provider`. It is killed when this is dropped.
///
/// Every method panics when it fails: a test has nothing else to do then.
#[derive(Debug)]
pub struct Provider {
    process: Child,
    /// Kept: a process whose output nobody takes dies of it.
    output: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
    listed: SocketAddr,
}

impl Provider {
    /// Starts a provider on a free port of this machine, and returns once it listens. It may not be listed yet.
    pub async fn start(registry: &str) -> Self {
        Self::start_on(registry, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts a provider that listens on `address`.
    pub async fn start_on(registry: &str, address: SocketAddr) -> Self {
        let arguments = ["--listen", &address.to_string(), "--registry", registry];
        Self::listens(command("provider", &arguments).await).await
    }

    /// Starts a provider on a free port of this machine, with more `arguments`.
    pub async fn start_with(registry: &str, arguments: &[&str]) -> Self {
        let all = [&["--listen", "127.0.0.1:0", "--registry", registry], arguments].concat();
        Self::listens(command("provider", &all).await).await
    }

    /// Starts a provider on a free port of this machine which writes its log, at level info, to a file.
    pub async fn start_logging(registry: &str, log: &Path) -> Self {
        let mut command = command("provider", &["--listen", "127.0.0.1:0", "--registry", registry]).await;
        command.env("RUST_LOG", "info,nacos_sdk=off").env("NO_COLOR", "1");
        command.stderr(std::fs::File::create(log).expect("a log can be written"));
        Self::listens(command).await
    }

    /// Starts a provider on a free port of this machine, and says where it shows its metrics.
    pub async fn start_with_metrics(registry: &str) -> (Self, SocketAddr) {
        let arguments = ["--listen", "127.0.0.1:0", "--registry", registry, "--metrics", "127.0.0.1:0"];
        let mut provider = Self::listens(command("provider", &arguments).await).await;
        let line = timeout(ANSWER, provider.output.next_line()).await.expect("it goes on in time");
        let line = line.expect("the output is text").expect("it does not end");
        // "metrics on http://ADDRESS/metrics"
        let address = line.strip_prefix("metrics on http://").and_then(|rest| rest.split('/').next()?.parse().ok());
        (provider, address.unwrap_or_else(|| panic!("the provider says: {line}")))
    }

    /// Starts `tests-provider`, which lies at `binary`, with a clerk who writes into `directory`.
    pub async fn start_ledger(binary: &str, registry: &str, address: SocketAddr, directory: &Path) -> Self {
        let mut command = Command::new(binary);
        command.args([registry, &address.to_string()]).arg(directory);
        Self::listens(prepared(command)).await
    }

    async fn listens(command: Command) -> Self {
        let mut process = start(command);
        let output = process.stdout.take().expect("the output is a pipe");
        let mut output = BufReader::new(output).lines();
        let line = timeout(ANSWER, output.next_line()).await.expect("the provider says in time where it listens");
        let line = line.expect("the output is text").expect("the provider says where it listens before it ends");
        // "serving … on ADDRESS, listed as ADDRESS in URL"
        let after = |mark: &str| {
            let (_, rest) = line.split_once(mark)?;
            rest.split([',', ' ']).next()?.parse().ok()
        };
        let (Some(address), Some(listed)) = (after(" on "), after(" listed as ")) else {
            panic!("the provider says: {line}");
        };
        Self { process, output, address, listed }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id().expect("the provider has not been waited for")
    }

    /// Where consumers are told to find it.
    pub fn listed_address(&self) -> SocketAddr {
        self.listed
    }

    /// Asks it to drain and end, by SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it at once, as a crash would, by SIGKILL.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Stops it without ending it: its connections stay open and nothing answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after a pause.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until it has ended; says how, and what it printed since it said where it listens.
    pub async fn wait(&mut self) -> (ExitStatus, Vec<String>) {
        let ended = async {
            let mut lines = Vec::new();
            while let Some(line) = self.output.next_line().await.expect("the output is text") {
                lines.push(line);
            }
            (self.process.wait().await.expect("a process that was started ends"), lines)
        };
        timeout(END, ended).await.expect("the provider ends in time")
    }

    fn signal(&self, signal: Signal) {
        send(self.id(), signal);
    }
}

/// The `consumer` binary, calling. It is killed when this is dropped.
#[derive(Debug)]
pub struct Consumer {
    process: Child,
}

/// What a consumer says of its calls.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Summary {
    /// All of them.
    pub calls: u64,
    /// Those that were answered.
    pub ok: u64,
    /// Those that were not.
    pub failed: u64,
    /// How many failed with what.
    pub errors: BTreeMap<String, u64>,
    /// Which provider answered how many.
    pub providers: BTreeMap<SocketAddr, u64>,
    /// The median of the latencies, in microseconds.
    pub p50_us: u64,
    /// What 99 % of the latencies are below, in microseconds.
    pub p99_us: u64,
    /// The longest latency, in microseconds.
    pub max_us: u64,
}

impl Consumer {
    /// Starts a consumer with `arguments` besides `--registry` and `--json`.
    pub async fn start(registry: &str, arguments: &[&str]) -> Self {
        let all = [&["--json", "--registry", registry], arguments].concat();
        Self { process: spawn("consumer", &all).await }
    }

    /// Asks it to stop calling and to end, by SIGTERM.
    pub fn terminate(&self) {
        send(self.process.id().expect("the consumer has not been waited for"), Signal::TERM);
    }

    /// Waits until it has ended; says how, and what it printed.
    pub async fn wait(self) -> (ExitStatus, Summary) {
        let output = timeout(END, self.process.wait_with_output()).await.expect("the consumer ends in time");
        let output = output.expect("a process that was started ends");
        let text = String::from_utf8_lossy(&output.stdout);
        (output.status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}")))
    }
}

/// Runs one of the examples' binaries to its end.
pub async fn run(name: &str, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::from(command(name, arguments).await);
    command.stderr(Stdio::piped()).kill_on_drop(true);
    timeout(END, command.output()).await.expect("the process ends in time").expect("the process starts")
}

async fn spawn(name: &str, arguments: &[&str]) -> Child {
    start(command(name, arguments).await)
}

pub(crate) fn start(command: Command) -> Child {
    tokio::process::Command::from(command).kill_on_drop(true).spawn().expect("the process starts")
}

pub(crate) async fn command(name: &str, arguments: &[&str]) -> Command {
    let binaries = tokio::task::spawn_blocking(|| &*BINARIES).await.expect("the examples are built");
    let mut command = Command::new(binaries.get(name).unwrap_or_else(|| panic!("there is no binary {name}")));
    command.args(arguments);
    prepared(command)
}

fn prepared(mut command: Command) -> Command {
    command.env_remove("MSNB_REGISTRY").stdin(Stdio::null()).stdout(Stdio::piped());
    if std::env::var_os("RUST_LOG").is_none() {
        command.env("RUST_LOG", "error,nacos_sdk=off");
    }
    command
}

/// Ends a process as a crash would, if there is one, and waits for its end.
pub(crate) fn kill(process: &mut Option<std::process::Child>) {
    if let Some(mut process) = process.take() {
        // It may have ended by itself.
        let _ = process.kill();
        process.wait().expect("a killed process ends");
    }
}

/// Sends a signal to a process that this one has started and not waited for yet.
pub(crate) fn send(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(process, signal).expect("the process takes a signal");
}

/// Where the examples' binaries are, by name.
static BINARIES: LazyLock<BTreeMap<String, PathBuf>> = LazyLock::new(build);

/// Builds the examples' binaries, which takes a moment when cargo has them already.
fn build() -> BTreeMap<String, PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        target: Option<Target>,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    // This test is target/debug/deps/name-hash.
    let test = std::env::current_exe().expect("a test knows its path");
    let directory = test.ancestors().nth(2).expect("a test lies in the directory of its profile");
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(other) => other,
        None => panic!("{} names no profile", test.display()),
    };
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo tells a test of its package would have build scripts run anew that look at it, as ring's does, each time.
    let of_this_test = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    });
    of_this_test.for_each(|name| _ = cargo.env_remove(name));
    let output = cargo
        // With a test among it, so that the dependencies are those of `cargo test --workspace`, which has built them.
        .args(["build", "--workspace", "--bins", "--test", "calls", "--message-format", "json-render-diagnostics"])
        .args(["--profile", profile, "--target-dir"])
        .arg(directory.parent().expect("a profile lies in a target directory"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "the examples do not build");
    let messages = String::from_utf8(output.stdout).expect("cargo speaks JSON");
    messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter_map(|Message { target, executable }| Some((target?.name, executable?)))
        .collect()
}

/// The longest that a process may take to say what it has to say, on a machine that is busy with other tests.
const ANSWER: Duration = Duration::from_secs(60);

/// The longest that a process may take to end; a drain may take half of it.
const END: Duration = Duration::from_secs(120);
