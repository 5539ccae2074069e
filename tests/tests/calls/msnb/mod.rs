//! The command `msnb` against real servers: output, exit codes, and errors that say how to fix a problem.

mod commands;
mod console;
mod documented;
mod export;
mod operators;
mod press;
mod secured;
mod streams;
mod terminal;

use std::{net::SocketAddr, path::Path, process::Output};

use serde_json::{Value, json};
use tests::{process::run, program::Program};

const GREETER: &str = "demo.Greeter:1.0";

/// Runs the command, and returns its exit code, stdout and stderr.
async fn msnb(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Program::run("msnb", arguments, &[]).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Runs a command that succeeds, and returns its output.
async fn output(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = msnb(arguments).await;
    assert_eq!((code, &*stderr), (0, ""), "{arguments:?}: {stdout}");
    stdout
}

/// Runs a command that prints a JSON document, and returns its exit code and the document.
async fn document(arguments: &[&str]) -> (i32, Value) {
    let (code, stdout, stderr) = msnb(&[arguments, &["--json"]].concat()).await;
    assert_eq!(stderr, "", "{arguments:?}");
    (code, serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}")))
}

/// Runs a command that fails with an exit code, and whose error contains each of the texts.
async fn fails(arguments: &[&str], code: i32, texts: &[&str]) {
    let (found, stdout, stderr) = msnb(arguments).await;
    assert_eq!((found, &*stdout), (code, ""), "{arguments:?}: {stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains("\n  fix: "), "{stderr}");
    for text in texts {
        assert!(stderr.contains(text), "{text} is not in: {stderr}");
    }
    let (found, document) = document(arguments).await;
    assert_eq!((found, &document["error"]["exit"]), (code, &json!(code)));
    let message = document["error"]["message"].as_str().unwrap();
    assert!(stderr.contains(message.split(" after ").next().unwrap()), "{message} is not in: {stderr}");
    assert!(document["error"]["fix"].is_string(), "{document}");
}

/// Returns an address at which nothing listens.
fn vacant() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn local(directory: &Path) -> String {
    format!("local:{}", directory.display())
}

/// Waits until the registry lists a provider, by a call that waits for it.
async fn until_listed(registry: &str, tag: &str) {
    let output = run("consumer", &["--registry", registry, "--tag", tag, "--calls", "1", "--json"]).await;
    assert!(output.status.success(), "{output:?}");
}
