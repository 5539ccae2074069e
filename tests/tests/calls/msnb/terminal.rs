//! `msnb` in a pseudo-terminal: progress of a load, and Ctrl-C.

use std::{path::Path, process::Stdio};

use serde_json::{Value, json};
use tests::{in_time, process::Provider, program::Program};
use tokio::io::AsyncReadExt as _;

use super::{GREETER, local, msnb, until_listed};

/// A program of Python, whose standard library has pseudo-terminals: runs a command in one, and prints its output as JSON.
/// After the first output that contains the given text, it sends Ctrl-C through the terminal.
const TERMINAL: &str = r#"
import json, os, pty, select, sys
interrupt_at, arguments = sys.argv[1], sys.argv[2:]
process, terminal = pty.fork()
if process == 0:
    os.execv(arguments[0], arguments)
output, interrupted = b"", False
while True:
    try:
        part = os.read(terminal, 65536)
    except OSError:
        break
    if not part:
        break
    output += part
    if interrupt_at and not interrupted and interrupt_at.encode() in output:
        os.write(terminal, b"\x03")
        interrupted = True
_, status = os.waitpid(process, 0)
print(json.dumps({"code": os.waitstatus_to_exitcode(status), "output": output.decode("utf-8", "replace")}))
"#;

/// Runs `msnb` in a pseudo-terminal, and returns its exit code and output; `None` without Python.
async fn terminal(interrupt_at: &str, arguments: &[&str]) -> Option<(i64, String)> {
    let program: &Path = Program::path("msnb").await;
    let python = tokio::process::Command::new("python3")
        .args(["-c", TERMINAL, interrupt_at])
        .arg(program)
        .args(arguments)
        .env_remove("MSNB_REGISTRY")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut python) = python else {
        eprintln!("SKIPPED: this machine has no python3");
        return None;
    };
    let mut text = String::new();
    in_time(python.stdout.take().unwrap().read_to_string(&mut text)).await.unwrap();
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    Some((report["code"].as_i64().unwrap(), report["output"].as_str().unwrap().to_owned()))
}

#[tokio::test]
async fn terminal_shows_progress_of_press() {
    let provider = Provider::start("memory:").await;
    let address = provider.address().to_string();
    let press = ["press", "demo.Greeter:1.0/hello", r#"{"name": "Bo"}"#, "--address", &address];
    let short = [&press[..], &["--seconds", "500ms", "--rate", "50"]].concat();
    let Some((code, output)) = terminal("", &short).await else { return };
    assert!(code == 0 && output.contains("s left") && output.contains("\u{1b}[K"), "{output}");
    let (_, table) = output.rsplit_once("\u{1b}[K").unwrap();
    assert!(table.starts_with("calls ") && table.contains("p99.9"), "the progress is cleared: {output}");

    // Ctrl-C ends a load early, with its results.
    let long = [&press[..], &["--seconds", "10m", "--rate", "50"]].concat();
    let (code, output) = terminal("s left", &long).await.unwrap();
    assert!(code == 130 && output.contains("p99.9"), "{output}");
}

#[tokio::test]
async fn ctrl_c_in_terminal_ends_commands() {
    let directory = tempfile::tempdir().unwrap();
    let registry = format!("local:{}", directory.path().join("registry").display());
    let provider = Provider::start(&registry).await;
    let address = provider.address().to_string();
    let Some((code, output)) = terminal("added", &["watch", "demo.Greeter:1.0", "--registry", &registry]).await else {
        return;
    };
    assert!(code == 0 && output.contains(&address), "{output}");
    let (code, output) = terminal("seq=1", &["ping", &address]).await.unwrap();
    assert!(code == 0 && output.contains("ping statistics"), "{output}");
    let (code, output) =
        terminal("console on", &["console", "--listen", "127.0.0.1:0", "--registry", &registry]).await.unwrap();
    assert!(code == 0 && output.contains("http://127.0.0.1:"), "{output}");
    // The terminal has no input for a call that reads stdin.
    let stdin = ["call", "demo.Greeter:1.0/hello", "-", "--address", &address, "--json"];
    let (code, _) = terminal("", &[&stdin[..], &["--timeout", "1s", "--explain", "-d", "{}"]].concat()).await.unwrap();
    assert_eq!(code, 2, "two sources of the arguments");
}

#[tokio::test]
async fn help_and_errors_fit_the_terminal() {
    let Some((code, output)) = terminal("", &["--help"]).await else { return };
    let lines = || output.lines().map(|line| line.trim_end_matches('\r'));
    assert!(code == 0 && lines().all(|line| line.chars().count() <= 120), "{output}");
    for command in
        ["ls", "describe", "call", "export", "check", "ping", "press", "watch", "offline", "drill", "console"]
    {
        assert!(lines().any(|line| line.trim_start().starts_with(command)), "{command} is not in: {output}");
    }
    let (code, output) = terminal("", &["ls", "--registry", "fixed:127.0.0.1:1"]).await.unwrap();
    assert!(code == 4 && output.contains("error: ") && output.contains("  fix: "), "{output}");
    assert_eq!(json!(output.matches("error: ").count()), json!(1));
}

/// The output of a command does not depend on where it goes.
#[tokio::test]
async fn commands_print_the_same_in_pipe_and_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let registry = local(directory.path());
    let provider = Provider::start(&registry).await;
    until_listed(&registry, "").await;
    let address = provider.address().to_string();
    let file = directory.path().join("contract.json");
    std::fs::write(&file, super::output(&["describe", "shop.Goods:1.0", "--address", &address, "--json"]).await)
        .unwrap();
    let (file, hello) = (file.to_str().unwrap(), "demo.Greeter:1.0/hello");
    let at = ["--registry", &*registry];
    for (arguments, code) in [
        (&["ls"][..], 0),
        (&["ls", GREETER], 0),
        (&["ls", GREETER, "--json"], 0),
        (&["describe", GREETER], 0),
        (&["describe", hello, "--template"], 0),
        (&["describe", hello, "--json"], 0),
        (&["call", hello, r#"{"name": "Bo"}"#], 0),
        (&["call", hello, r#"{"name": ""}"#], 3),
        (&["call", hello, "{name"], 2),
        (&["call", hello, r#"{"name": 1}"#, "--address", &address], 2),
        (&["check", "--against", &address, file], 0),
        (&["check", "--against", "/missing", file], 2),
        (&["export", "--proto", GREETER], 0),
        (&["export", "--proto"], 2),
        (&["offline", &address], 0),
        (&["weight", &address, "2"], 0),
        (&["weight", &address, "many"], 2),
        (&["online", &address], 0),
        (&["online", "127.0.0.1:1"], 5),
        (&["ping", "demo.None:1.0"], 5),
        (&["press", "demo.Greeter:1.0"], 2),
        (&["press", hello, "{}", "--address", &address], 2),
        (&["watch", "nothing"], 2),
        (&["drill", "rolling", "--call", GREETER, "--", "true"], 2),
        (&["drill", "rolling", "--call", hello, "--providers", "1", "--", "true"], 2),
        (&["console", "--listen", "nowhere"], 2),
        (&["console", "--listen", &address], 2),
        (&["completion", "bash"], 0),
        (&["completion", "cmd"], 2),
    ] {
        let takes_registry = arguments[0] != "completion";
        let all = [arguments, if takes_registry { &at[..] } else { &[] }].concat();
        // The options of a drill precede its command.
        let all = match all.iter().position(|word| *word == "--") {
            Some(end) => [&all[..end], &at, &all[end..all.len() - at.len()]].concat(),
            None => all,
        };
        let Some((in_terminal, shown)) = terminal("", &all).await else { return };
        let (in_pipe, stdout, stderr) = msnb(&all).await;
        assert_eq!((in_terminal, in_pipe), (i64::from(code), code), "{all:?}: {shown}{stderr}");
        // Usage errors of clap have the width of the terminal.
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&shown), words(&format!("{stderr}{stdout}")), "{all:?}");
    }
}
