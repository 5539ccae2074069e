//! Processes of the examples' binaries, which tests start, signal and wait for.
//!
//! A test process builds the binaries of the examples and of rpc-im once, with the profile and into the target
//! directory of the running test. Cargo itself builds `tests-provider`, which serves `test.Ledger:1.0`, for the tests
//! that name it.

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

/// A process of the `provider` binary or of `tests-provider`. Dropping it kills the process.
///
/// Every method panics on failure, because a test cannot continue.
#[derive(Debug)]
pub struct Provider {
    process: Child,
    /// Kept open: a process that writes to a closed pipe fails.
    output: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
    listed: SocketAddr,
}

impl Provider {
    /// Starts a provider on a free loopback port. When this returns, it listens but may not be registered yet.
    pub async fn start(registry: &str) -> Self {
        Self::start_on(registry, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts a provider that listens on `address`.
    pub async fn start_on(registry: &str, address: SocketAddr) -> Self {
        let arguments = ["--listen", &address.to_string(), "--registry", registry];
        Self::listens(command("provider", &arguments).await).await
    }

    /// Starts a provider on a free loopback port with additional `arguments`.
    pub async fn start_with(registry: &str, arguments: &[&str]) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), registry, arguments).await
    }

    /// Starts a provider that listens on `address` with additional `arguments`.
    pub async fn start_at(address: SocketAddr, registry: &str, arguments: &[&str]) -> Self {
        let address = address.to_string();
        let all = [&["--listen", &address, "--registry", registry], arguments].concat();
        Self::listens(command("provider", &all).await).await
    }

    /// Starts a provider on a free loopback port that writes its log of level info to the file `log`.
    pub async fn start_logging(registry: &str, log: &Path) -> Self {
        Self::start_logging_at("info", registry, log).await
    }

    /// Starts a provider on a free loopback port that writes its log of `level` to the file `log`.
    pub async fn start_logging_at(level: &str, registry: &str, log: &Path) -> Self {
        let mut command = command("provider", &["--listen", "127.0.0.1:0", "--registry", registry]).await;
        command.env("RUST_LOG", format!("{level},nacos_sdk=off")).env("NO_COLOR", "1");
        command.stderr(std::fs::File::create(log).expect("cannot create the log file"));
        Self::listens(command).await
    }

    /// Starts a provider on a free loopback port, and returns it with the address of its metrics port.
    pub async fn start_with_metrics(registry: &str) -> (Self, SocketAddr) {
        let arguments = ["--listen", "127.0.0.1:0", "--registry", registry, "--metrics", "127.0.0.1:0"];
        let mut provider = Self::listens(command("provider", &arguments).await).await;
        let line = timeout(ANSWER, provider.output.next_line()).await.expect("no metrics address in time");
        let line = line.expect("the output is text").expect("the provider ended before it printed its metrics address");
        // "metrics on http://ADDRESS/metrics"
        let address = line.strip_prefix("metrics on http://").and_then(|rest| rest.split('/').next()?.parse().ok());
        (provider, address.unwrap_or_else(|| panic!("unexpected output of the provider: {line}")))
    }

    /// Starts the `tests-provider` at the path `binary`, whose clerk records calls in `directory`.
    pub async fn start_ledger(binary: &str, registry: &str, address: SocketAddr, directory: &Path) -> Self {
        let mut command = Command::new(binary);
        command.args([registry, &address.to_string()]).arg(directory);
        Self::listens(prepared(command)).await
    }

    /// Starts a process of the program at the path `binary`, which serves one version of `test.Evolving:1.0`.
    pub async fn start_evolving(binary: &str, registry: &str, address: SocketAddr) -> Self {
        let mut command = prepared(Command::new(binary));
        command.arg(address.to_string()).env("MSNB_REGISTRY", registry);
        Self::listens(command).await
    }

    async fn listens(command: Command) -> Self {
        let mut process = start(command);
        let output = process.stdout.take().expect("the output is a pipe");
        let mut output = BufReader::new(output).lines();
        let line = timeout(ANSWER, output.next_line()).await.expect("the provider prints its address in time");
        let line = line.expect("the output is text").expect("the provider ended before it printed its address");
        // "serving … on ADDRESS, listed as ADDRESS in URL"; the feed states one address
        let after = |mark: &str| {
            let (_, rest) = line.split_once(mark)?;
            rest.split([',', ' ']).next()?.parse().ok()
        };
        let address = after(" on ").unwrap_or_else(|| panic!("unexpected output of the provider: {line}"));
        let listed = after(" listed as ").unwrap_or(address);
        Self { process, output, address, listed }
    }

    /// Starts the `feed` binary as a provider that listens on `address` with additional `arguments`.
    pub async fn start_feed(address: SocketAddr, registry: &str, arguments: &[&str]) -> Self {
        let address = address.to_string();
        let all = [&["provide", "--listen", &address, "--registry", registry], arguments].concat();
        Self::listens(command("feed", &all).await).await
    }

    /// Returns the address on which the provider listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.process.id().expect("the test has not waited for the provider yet")
    }

    /// Returns the address that the provider registers.
    pub fn listed_address(&self) -> SocketAddr {
        self.listed
    }

    /// Starts the provider's drain with SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Kills the provider with SIGKILL, like a crash.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Suspends the provider with SIGSTOP: its connections stay open and unresponsive.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Resumes the provider after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits for the end of the process; returns its status and the lines printed after its address.
    pub async fn wait(&mut self) -> (ExitStatus, Vec<String>) {
        let ended = async {
            let mut lines = Vec::new();
            while let Some(line) = self.output.next_line().await.expect("the output is text") {
                lines.push(line);
            }
            (self.process.wait().await.expect("cannot wait for the process"), lines)
        };
        timeout(END, ended).await.expect("the provider did not end in time")
    }

    fn signal(&self, signal: Signal) {
        send(self.id(), signal);
    }
}

/// A process of the `consumer` binary. Dropping it kills the process.
#[derive(Debug)]
pub struct Consumer {
    process: Child,
}

/// The JSON summary that a consumer prints.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Summary {
    /// All calls.
    pub calls: u64,
    /// Calls that succeeded.
    pub ok: u64,
    /// Calls that failed.
    pub failed: u64,
    /// The number of failures by error code.
    pub errors: BTreeMap<String, u64>,
    /// The number of answers by provider.
    pub providers: BTreeMap<SocketAddr, u64>,
    /// The number of failures by provider.
    pub provider_failures: BTreeMap<SocketAddr, u64>,
    /// The median latency in microseconds.
    pub p50_us: u64,
    /// The 99th percentile of the latencies in microseconds.
    pub p99_us: u64,
    /// The maximum latency in microseconds.
    pub max_us: u64,
}

impl Consumer {
    /// Starts a consumer with `arguments` in addition to `--registry` and `--json`.
    pub async fn start(registry: &str, arguments: &[&str]) -> Self {
        let all = [&["--json", "--registry", registry], arguments].concat();
        Self { process: spawn("consumer", &all).await }
    }

    /// Stops the consumer with SIGTERM.
    pub fn terminate(&self) {
        send(self.process.id().expect("the test has not waited for the consumer yet"), Signal::TERM);
    }

    /// Waits for the end of the process; returns its status and summary.
    pub async fn wait(self) -> (ExitStatus, Summary) {
        let output = timeout(END, self.process.wait_with_output()).await.expect("the consumer did not end in time");
        let output = output.expect("cannot wait for the process");
        let text = String::from_utf8_lossy(&output.stdout);
        (output.status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}")))
    }
}

/// Returns a command that runs tests of the current test binary in a process of their own.
pub fn test_process(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of the test binary is known"));
    command.args(arguments);
    command
}

/// Runs one of the examples' binaries to completion.
pub async fn run(name: &str, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::from(command(name, arguments).await);
    command.stderr(Stdio::piped()).kill_on_drop(true);
    timeout(END, command.output()).await.expect("the process did not end in time").expect("cannot start the process")
}

async fn spawn(name: &str, arguments: &[&str]) -> Child {
    start(command(name, arguments).await)
}

pub(crate) fn start(command: Command) -> Child {
    tokio::process::Command::from(command).kill_on_drop(true).spawn().expect("cannot start the process")
}

pub(crate) async fn command(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary(name).await);
    command.args(arguments);
    prepared(command)
}

/// Returns the path of a binary, after building it.
pub(crate) async fn binary(name: &str) -> &'static Path {
    let binaries = tokio::task::spawn_blocking(|| &*BINARIES).await.expect("building the examples panicked");
    binaries.get(name).unwrap_or_else(|| panic!("no binary named {name}"))
}

pub(crate) fn prepared(mut command: Command) -> Command {
    command.env_remove("MSNB_REGISTRY").stdin(Stdio::null()).stdout(Stdio::piped());
    if std::env::var_os("RUST_LOG").is_none() {
        command.env("RUST_LOG", "error,nacos_sdk=off");
    }
    command
}

/// Kills a process, like a crash, and waits for its end. Does nothing for `None`.
pub(crate) fn kill(process: &mut Option<std::process::Child>) {
    if let Some(mut process) = process.take() {
        // The process may have ended already.
        let _ = process.kill();
        process.wait().expect("cannot wait for a killed process");
    }
}

/// Sends a signal to a child process that the test has not waited for yet.
pub(crate) fn send(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).expect("the process id is valid");
    kill_process(process, signal).expect("cannot signal the process");
}

/// Paths of the examples' binaries by name.
static BINARIES: LazyLock<BTreeMap<String, PathBuf>> = LazyLock::new(build);

/// Builds the examples' binaries; fast if cargo has built them already.
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
    // The path of the running test is target/debug/deps/name-hash.
    let test = std::env::current_exe().expect("cannot determine the path of this test");
    let directory = test.ancestors().nth(2).expect("the test is in the directory of its profile");
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "test",
        Some(other) => other,
        None => panic!("no profile in the path {}", test.display()),
    };
    let mut cargo = Command::new(env!("CARGO"));
    // Cargo sets variables of this package for a test. Build scripts that watch them, such as ring's, would rerun.
    let of_this_test = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    });
    of_this_test.for_each(|name| _ = cargo.env_remove(name));
    let output = cargo
        // Includes a test, so that dependencies have the features of `cargo test --workspace`, which built them.
        .args(["build", "--workspace", "--bins", "--test", "calls", "--message-format", "json-render-diagnostics"])
        .args(["--profile", profile, "--target-dir"])
        .arg(directory.parent().expect("the profile is in a target directory"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("cannot run cargo");
    assert!(output.status.success(), "cargo cannot build the examples");
    let messages = String::from_utf8(output.stdout).expect("the output of cargo is text");
    messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter_map(|Message { target, executable }| Some((target?.name, executable?)))
        .collect()
}

/// Limit of the wait for a line of output, on a machine that is busy with other tests.
const ANSWER: Duration = Duration::from_secs(60);

/// Limit of the wait for the end of a process; a drain may take half of it.
const END: Duration = Duration::from_secs(120);
