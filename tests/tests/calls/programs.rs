//! Programs that use rpc-cli: options from the environment, errors, signals, a log without secrets. The tests run the
//! processes of the examples.

use std::{fs, path::Path};

use contracts::GreeterClient;
use rpc_client::Client;
use rpc_core::{Code, Token};
use tests::{
    in_time, patient,
    process::{Consumer, run},
    program::Program,
    until_error, until_ok,
};

const ANN: &str = "the secret of ann, the caller";

/// Waits until `log` contains `text`, and returns its content.
async fn until_logged(log: &Path, text: &str) -> String {
    until_ok(async || {
        let content = fs::read_to_string(log).unwrap();
        if content.contains(text) { Ok(content) } else { Err(content) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_are_read_from_environment() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    assert!(run("certificates", &[directory.path().to_str().unwrap()]).await.status.success());
    fs::write(file("tokens"), format!("ann:{ANN}\n")).unwrap();
    fs::write(file("rules"), "demo.Greeter:1.0 ann\nshop.Goods:1.0 ann\n").unwrap();
    let registry = format!("local:{}", file("registry"));
    let [ca, cert, key, tokens, rules] = ["ca.pem", "server.pem", "server.key", "tokens", "rules"].map(file);
    let variables = [
        ("MSNB_REGISTRY", &*registry),
        ("MSNB_TLS_CERT", &cert),
        ("MSNB_TLS_KEY", &key),
        ("MSNB_CLIENT_CA", &ca),
        ("MSNB_ACCEPTED_TOKENS", &tokens),
        ("MSNB_ACCESS_RULES", &rules),
    ];
    let log = directory.path().join("log");
    let mut provider = Program::start("provider", &["--listen", "127.0.0.1:0"], &variables, &log).await;
    provider.line_after(" on ").await;
    let [cert, key] = ["client.pem", "client.key"].map(file);
    let variables = [
        ("MSNB_REGISTRY", &*registry),
        ("MSNB_TLS_CA", &ca),
        ("MSNB_TLS_NAME", "localhost"),
        ("MSNB_CLIENT_CERT", &cert),
        ("MSNB_CLIENT_KEY", &key),
        ("MSNB_TOKEN_FILE", &tokens),
    ];
    let output = Program::run("consumer", &["--calls", "10"], &variables).await;
    assert!(output.status.success(), "{output:?}");
    // Without each of the last three, the provider rejects the consumer.
    for missing in 3..variables.len() {
        let rest: Vec<_> =
            variables.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, pair)| *pair).collect();
        assert!(!Program::run("consumer", &["--calls", "1"], &rest).await.status.success(), "without {missing}");
    }
    assert!(provider.terminate().await.success());
}

#[tokio::test]
async fn program_prints_error_of_main_as_text() {
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = occupied.local_addr().unwrap().to_string();
    let output = Program::run("provider", &["--listen", &address, "--registry", "memory:"], &[]).await;
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.starts_with("Error: ") && error.contains("cannot listen: ") && error.contains("Address already in use"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "the cause is in the message: {error}");
    let output = Program::run("provider", &["--registry", "memory:", "--accepted-tokens", "/missing"], &[]).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("cannot read /missing: No such file") && !error.contains("source"), "{error}");
}

#[tokio::test]
async fn consumer_rejects_too_long_duration() {
    for (seconds, is_valid) in [("31536000", true), ("31536001", false), ("18446744073709551615", false)] {
        let output = Program::run("consumer", &["--registry", "fixed:127.0.0.1:9", "--seconds", seconds], &[]).await;
        let error = String::from_utf8(output.stderr).unwrap();
        // Without a provider, a consumer with valid arguments exits after its first call.
        assert_eq!(output.status.code(), Some(if is_valid { 1 } else { 2 }), "{error}");
        assert_eq!(error.contains("1..=31536000"), !is_valid, "{error}");
    }
}

#[tokio::test]
async fn trace_log_contains_no_token() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(file("tokens"), format!("ann:{ANN}\n")).unwrap();
    fs::write(file("wrong"), "ann:another secret of ann\n").unwrap();
    let registry = format!("local:{}", file("registry"));
    let trace = [("RUST_LOG", "trace"), ("MSNB_REGISTRY", &*registry)];
    let (tokens, wrong, log) = (file("tokens"), file("wrong"), directory.path().join("log"));
    let arguments = ["--listen", "127.0.0.1:0", "--accepted-tokens", &tokens];
    let mut provider = Program::start("provider", &arguments, &trace, &log).await;
    provider.line().await;
    let accepted = Program::run("consumer", &["--calls", "3", "--token-file", &tokens], &trace).await;
    assert!(accepted.status.success(), "{accepted:?}");
    let rejected = Program::run("consumer", &["--calls", "1", "--token-file", &wrong], &trace).await;
    assert!(!rejected.status.success(), "{rejected:?}");
    assert!(provider.terminate().await.success());
    let server = fs::read_to_string(&log).unwrap();
    assert!(server.contains("TRACE") && server.contains("ann"), "the server logs at level trace: {server}");
    for text in [server, String::from_utf8(accepted.stderr).unwrap(), String::from_utf8(rejected.stderr).unwrap()] {
        for secret in [ANN, "another secret of ann"] {
            let bytes = format!("{:?}", secret.as_bytes());
            let bytes = bytes.trim_matches(['[', ']']);
            let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            for form in [secret, bytes, &hex] {
                assert!(!text.contains(form), "{form}\n{text}");
            }
        }
    }
}

#[tokio::test]
async fn broken_rules_file_keeps_previous_rules() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let replace = |content: &str| {
        fs::write(path("new"), content).unwrap();
        fs::rename(path("new"), path("rules")).unwrap();
    };
    fs::write(path("tokens"), format!("team-a:{ANN}\n")).unwrap();
    replace("demo.Greeter:1.0 team-*\n");
    let (rules, tokens, log) = (path("rules"), path("tokens"), path("log"));
    let arguments = ["--accepted-tokens", tokens.to_str().unwrap(), "--access-rules", rules.to_str().unwrap()];
    let arguments = [&["--listen", "127.0.0.1:0", "--registry", "memory:"][..], &arguments].concat();
    let mut provider = Program::start("provider", &arguments, &[("RUST_LOG", "info")], &log).await;
    let address = provider.line_after(" on ").await.parse().unwrap();
    let client = Client::builder().config(patient()).token(Token::new("team-a", ANN).unwrap()).build().unwrap();
    let greeter = GreeterClient::new(client);
    let hello = async || greeter.hello("Bo".to_owned()).address(address).await;
    in_time(hello()).await.unwrap();

    replace("demo.Greeter:1.0 team-*\n  demo.Greter:1.0 team-*\n");
    let logged = until_logged(&log, "rules:2:3: demo.Greter:1.0").await;
    assert!(logged.contains("WARN"), "{logged}");
    hello().await.unwrap();

    replace("demo.Greeter:1.0 other-*\n");
    let denied = until_error(hello, |error| error.rpc().is_some()).await;
    assert_eq!(denied.rpc().map(|error| error.code()), Some(Code::PermissionDenied), "{denied:?}");
    assert!(provider.terminate().await.success());
}

/// The disk of `/dev/full` is always full.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn program_survives_full_disk_of_log() {
    let directory = tempfile::tempdir().unwrap();
    let registry = format!("local:{}", directory.path().display());
    let arguments = ["--listen", "127.0.0.1:0", "--registry", &registry];
    let mut provider = Program::start("provider", &arguments, &[("RUST_LOG", "trace")], Path::new("/dev/full")).await;
    provider.line().await;
    let (status, summary) = Consumer::start(&registry, &["--calls", "20"]).await.wait().await;
    assert!(status.success(), "{summary:?}");
    assert!(provider.terminate().await.success());
}
