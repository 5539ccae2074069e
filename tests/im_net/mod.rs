//! IM clusters whose nodes are processes in network namespaces, with links that a test cuts.
//!
//! | topic | module |
//! |---|---|
//! | the addresses, the links and their cuts | `network` |
//! | the nodes | `fleet` |
//!
//! Namespaces require Linux, the rights to create them, and the programs `unshare`, `nsenter`, `ip` and `nft`. Debian
//! packages: util-linux, iproute2, nftables.

mod fleet;
mod network;

pub use self::{
    fleet::Fleet,
    network::{Network, Service},
};

use std::{
    env,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::timeout;

use crate::process::binary;

/// Runs a test in namespaces of its own: `case` runs in a process whose network has only a loopback interface, and whose
/// processes and mounts end with it. `test` is the path of the test that calls this function.
///
/// Prints a line and returns if this machine does not permit namespaces, or lacks a program.
///
/// # Panics
///
/// Panics if the test fails, or if it takes longer than `limit`.
pub async fn isolated(test: &str, limit: Duration, case: impl AsyncFnOnce()) {
    in_namespaces(test, limit, &["nft", "add", "table", "inet", "probe"], case).await;
}

/// As [`isolated`], without `nft`: the loopback interface of the network is enabled, and no link is cut.
///
/// # Panics
///
/// As [`isolated`].
pub async fn isolated_loopback(test: &str, limit: Duration, case: impl AsyncFnOnce()) {
    let case = async || {
        enable_loopback();
        case().await;
    };
    in_namespaces(test, limit, &["true"], case).await;
}

async fn in_namespaces(test: &str, limit: Duration, command: &[&str], case: impl AsyncFnOnce()) {
    if env::var(ISOLATED).is_ok_and(|isolated| isolated == test) {
        // Ends the line with the name of the test.
        println!();
        return case().await;
    }
    if let Err(reason) = probe(command) {
        eprintln!("SKIPPED in network namespaces: {reason}; Debian packages: util-linux, iproute2, nftables");
        return;
    }
    let node = binary("im-node").await;
    let mut command = tokio::process::Command::new("unshare");
    command
        .args(NAMESPACES)
        .arg(env::current_exe().expect("the path of the test binary is known"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ISOLATED, test)
        .env(NODE, node)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(limit, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{test} takes longer than {limit:?}"));
    let output = output.expect("unshare starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let is_of_harness = |line: &&str| ["test ", "test:", "running ", "ok"].iter().any(|word| line.starts_with(word));
    text.lines().filter(|line| !line.is_empty() && !is_of_harness(line)).for_each(|line| println!("{line}"));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test} failed in its namespaces");
    assert!(text.contains("1 passed"), "no test has the path {test}: {text}");
}

/// Enables the loopback interface, which is disabled in new namespaces.
fn enable_loopback() {
    run("ip", &["link", "set", "lo", "up"]);
}

/// Returns why `command` cannot run in namespaces.
fn probe(command: &[&str]) -> Result<(), String> {
    let attempt = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("`{program}` does not start ({error})"))?;
        let reason = String::from_utf8_lossy(&output.stderr);
        output.status.success().then_some(()).ok_or_else(|| format!("`{program}` fails: {}", reason.trim()))
    };
    attempt("ip", &["-Version"])?;
    let mut arguments = NAMESPACES.to_vec();
    arguments.extend(command);
    attempt("unshare", &arguments)
}

/// Runs a program to its end.
///
/// # Panics
///
/// Panics if it fails.
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let reason = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {reason}", arguments.join(" "));
}

/// New namespaces for the network, mounts and processes. The processes end with `unshare`.
const NAMESPACES: &[&str] = &["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
/// The variable with the test that runs in its namespaces.
const ISOLATED: &str = "MSNB_ISOLATED_TEST";
/// The variable with the path of the binary `im-node`.
const NODE: &str = "MSNB_ISOLATED_NODE";
