//! `msnb offline`, `online`, `weight`, `drill` and `completion`.

use std::process::{Command, Stdio};

use serde_json::json;
use tests::{
    process::{Provider, run},
    program::Program,
};

use super::{GREETER, document, fails, local, msnb, output, until_listed};

#[tokio::test]
async fn provider_is_taken_offline_and_back() {
    let directory = tempfile::tempdir().unwrap();
    let registry = local(directory.path());
    let at = ["--registry", &*registry];
    let (mut one, other) = (Provider::start(&registry).await, Provider::start(&registry).await);
    until_listed(&registry, "").await;
    let address = one.address().to_string();
    let calls = async || {
        let output = run("consumer", &["--registry", &registry, "--calls", "40", "--json"]).await;
        let summary: tests::process::Summary = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary.failed, 0, "{output:?}");
        summary.providers
    };
    let state = async || {
        let (_, listed) = document(&[&["ls", GREETER][..], &at].concat()).await;
        let providers = listed["providers"].as_array().unwrap().clone();
        providers.into_iter().find(|provider| provider["address"] == json!(address)).unwrap()
    };
    let printed = output(&[&["offline", &address][..], &at].concat()).await;
    let lines: Vec<Vec<&str>> = printed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["SERVICE", "ADDRESS", "WEIGHT", "STATE"]);
    assert_eq!(lines[1], [GREETER, &address, "1", "disabled"]);
    assert_eq!(lines.len(), 3, "both services of the provider are changed: {printed}");
    assert_eq!(state().await["enabled"], json!(false));
    assert_eq!(calls().await.keys().collect::<Vec<_>>(), [&other.address()]);
    let (_, services) = document(&[&["ls"][..], &at].concat()).await;
    assert_eq!(services["services"][0]["disabled"], json!(1));

    // The change outlives the provider's process.
    one.terminate();
    assert!(one.wait().await.0.success());
    let one = Provider::start_on(&registry, one.address()).await;
    until_listed(&registry, "").await;
    assert_eq!(state().await["enabled"], json!(false));

    let (code, changed) = document(&[&["online", &address, "--service", GREETER][..], &at].concat()).await;
    assert_eq!((code, &changed["changed"][0]["service"]), (0, &json!(GREETER)));
    let (code, changed) = document(&[&["weight", &address, "0", "--service", GREETER][..], &at].concat()).await;
    assert_eq!((code, &changed["changed"][0]["provider"]["weight"]), (0, &json!(0.0)));
    assert_eq!((&state().await["enabled"], &state().await["weight"]), (&json!(true), &json!(0.0)));
    assert_eq!(calls().await.keys().collect::<Vec<_>>(), [&other.address()]);
    output(&[&["weight", &address, "1"][..], &at].concat()).await;
    assert_eq!(calls().await.len(), 2);
    drop(one);
}

#[tokio::test]
async fn invalid_changes_say_how_to_fix_them() {
    let directory = tempfile::tempdir().unwrap();
    let registry = local(directory.path());
    for command in [&["offline", "127.0.0.1:1"][..], &["online", "127.0.0.1:1"], &["weight", "127.0.0.1:1", "2"]] {
        let none = [command, &["--registry", &registry]].concat();
        fails(&none, 5, &["lists no provider at 127.0.0.1:1", "`msnb ls SERVICE`"]).await;
        let fixed = [command, &["--registry", "fixed:127.0.0.1:1"]].concat();
        fails(&fixed, 4, &["this registry cannot", "local: or nacos:"]).await;
        let server = [command, &["--address", "127.0.0.1:1"]].concat();
        fails(&server, 2, &["a server has no list of providers", "--registry"]).await;
    }
    for (arguments, text) in [
        (&["offline", "somewhere"][..], "invalid socket address"),
        (&["weight", "127.0.0.1:1", "-1"], "unexpected argument"),
        (&["weight", "127.0.0.1:1", "10001"], "expected a number from 0 to 10000"),
    ] {
        let (code, _, stderr) = msnb(arguments).await;
        assert!(code == 2 && stderr.contains(text), "{arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn rolling_drill_restarts_providers_under_load() {
    let directory = tempfile::tempdir().unwrap();
    let registry = local(directory.path());
    // The build of the binaries puts them beside the test.
    let provider = Program::path("provider").await;
    let drill = |command: &[&'static str]| -> Vec<String> {
        let options = ["drill", "rolling", "--call", "demo.Greeter:1.0/hello", "-d", r#"{"name": "Bo"}"#];
        let more = ["--providers", "2", "--registry", &registry, "--json", "--", provider.to_str().unwrap()];
        options.into_iter().chain(more).chain(command.iter().copied()).map(str::to_owned).collect()
    };
    let run = async |arguments: Vec<String>| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (code, stdout, stderr) = msnb(&arguments).await;
        let document: serde_json::Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
        (code, document)
    };
    let (code, report) = run(drill(&["--listen", "127.0.0.1:0"])).await;
    assert_eq!((code, &report["failed"], &report["passed"]), (0, &json!(0), &json!(true)), "{report}");
    assert!(report["providers"].as_object().unwrap().len() > 2, "the successors were called: {report}");
    assert_eq!(report["restarts"], json!(2));

    let (code, failed) = run(drill(&["--no-such-option"])).await;
    assert_eq!(code, 5);
    assert!(failed["error"]["message"].as_str().unwrap().contains("has ended before it was listed"), "{failed}");
    let missing = ["drill", "rolling", "--call", "demo.Greeter:1.0/hello", "--registry", &registry, "--", "/missing"];
    let (code, _, stderr) = msnb(&missing).await;
    assert!(code == 2 && stderr.contains("cannot start `/missing`"), "{stderr}");
}

/// Each successor has another contract than its predecessor; one round upgrades, and the next one returns.
#[tokio::test]
async fn rolling_drill_upgrades_and_returns() {
    let directory = tempfile::tempdir().unwrap();
    let registry = local(directory.path());
    let [one, two] = [env!("CARGO_BIN_EXE_tests-evolving-one"), env!("CARGO_BIN_EXE_tests-evolving-two")];
    let call = ["--call", "test.Evolving:1.0/added_field", "-d", r#"{"order": {"id": 1, "item": "tea"}}"#];
    let to = ["--providers", "2", "--registry", &registry, "--upgrade", two];
    let run = async |more: &[&str]| {
        let all = [&["drill", "rolling"][..], &call, &to, more, &["--", one, "127.0.0.1:0"]].concat();
        msnb(&all).await
    };
    let (code, stdout, _) = run(&["--json"]).await;
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &report["failed"], &report["passed"]), (0, &json!(0), &json!(true)), "{report}");
    assert_eq!((&report["restarts"], report["providers"].as_object().unwrap().len()), (&json!(4), 6), "{report}");
    let (code, stdout, stderr) = run(&[]).await;
    assert!(code == 0 && stdout.contains("calls failed during 4 restarts"), "{stdout}");
    for program in [one, two] {
        assert_eq!(stderr.matches(&format!("its successor by `{program}` is listed")).count(), 2, "{stderr}");
    }
    // A successor that does not start ends the drill.
    let provider = Program::path("provider").await;
    let other = [&["drill", "rolling"][..], &call, &["--registry", &registry, "--providers", "2", "--patience", "5s"]];
    let other = [&other.concat()[..], &["--upgrade", provider.to_str().unwrap(), "--", one, "127.0.0.1:0"]].concat();
    let (code, _, stderr) = msnb(&other).await;
    assert!(code == 5 && stderr.contains("has ended before it was listed"), "{stderr}");
}

#[tokio::test]
async fn completion_scripts_are_read_by_their_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let script = output(&["completion", shell]).await;
        assert!(script.contains("describe") && script.contains("allow-calls"), "{script}");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("script");
        std::fs::write(&file, script).unwrap();
        let checked = Command::new(shell).arg("-n").arg(&file).stdin(Stdio::null()).output();
        match checked {
            Ok(checked) => assert!(checked.status.success(), "{checked:?}"),
            Err(_) => eprintln!("SKIPPED: this machine has no {shell}"),
        }
    }
    let (code, _, stderr) = msnb(&["completion", "cmd"]).await;
    assert!(code == 2 && stderr.contains("bash"), "{stderr}");
}
