//! Real servers of registries and of the engines of an IM cluster, which a test can kill and restart.

pub mod collector;
pub mod dnsmasq;
pub mod etcd;
pub mod mariadb;
pub mod nats;
pub mod postgres;
pub mod prometheus;
pub mod rabbitmq;
pub mod zookeeper;

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::time::{sleep, timeout};

use crate::in_time;

/// Returns a command that runs `program` as `user` if this process runs as root, which the servers refuse.
fn command_as(user: &str, program: &Path) -> Command {
    if !geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).arg(program);
    command
}

/// Creates a directory that `user` can write to.
fn directory_of(user: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("the data directory can be created");
    if geteuid().is_root() {
        let mut chown = Command::new("chown");
        succeed(chown.arg(format!("{user}:")).arg(directory.path()));
    }
    directory
}

/// Runs a command to its end; returns its output.
fn succeed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {text}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Starts a server; its output goes to the file `log`.
fn spawn(command: &mut Command, log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).expect("the log can be written");
    let output = log.try_clone().expect("the log file can be cloned");
    command.stdin(Stdio::null()).stdout(output).stderr(log).spawn().expect("the server starts")
}

/// Kills a server and its child processes, like a crash, and waits for its end. Does nothing for `None`.
fn kill(process: &mut Option<Child>) {
    if let Some(mut process) = process.take() {
        signal(&process, Signal::KILL);
        process.wait().expect("cannot wait for a killed process");
    }
}

/// Sends a signal to a server and its child processes.
fn signal(process: &Child, signal: Signal) {
    let id = process.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    signal_one(id, signal);
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        signal_one(child, signal);
    }
}

/// Sends a signal to a process, which may have ended already.
fn signal_one(id: u32, signal: Signal) {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw).expect("the process id is valid");
    let _ = kill_process(id, signal);
}

/// Sends the output of a process to the file `log` in a directory, after the output of earlier processes.
fn log_to(command: &mut Command, directory: &Path) {
    let log = File::options().create(true).append(true).open(directory.join("log"));
    let log = log.expect("the log can be written");
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("the log file can be cloned")).stderr(log);
}

/// Prints that tests with an engine are skipped.
fn skip(engine: &str, reason: &str, package: &str) {
    eprintln!("SKIPPED with {engine}: {reason}; Debian package: {package}");
}

/// Waits until a server serves. An attempt is limited, because a starting server may leave a request unanswered.
async fn until_serving(mut serves: impl AsyncFnMut() -> bool) {
    in_time(async {
        while timeout(ATTEMPT, serves()).await != Ok(true) {
            sleep(POLL).await;
        }
    })
    .await;
}

/// The limit of one attempt to reach a server.
const ATTEMPT: Duration = Duration::from_secs(1);
/// The interval at which a harness checks whether its server serves.
const POLL: Duration = Duration::from_millis(50);
