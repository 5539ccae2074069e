//! The log of a node contains no secret of its clients.

use std::fs;

use rpc_im::client::login;
use tests::{
    im_line::{log_in, send},
    program::Program,
    until_ok,
};

#[tokio::test]
async fn help_contains_no_password_of_environment() {
    let variables = [
        ("MSNB_REGISTRY", "nacos://localhost?username=ann&password=hunter2"),
        ("MSNB_IM_STORE", "postgres://ann:hunter2@localhost/im"),
        ("MSNB_IM_DIRECTORY", "redis://ann:hunter2@localhost"),
        ("MSNB_IM_MEMBERSHIP", "zookeeper://ann:hunter2@localhost"),
        ("MSNB_IM_BACKPLANE", "amqp://ann:hunter2@localhost"),
    ];
    for name in ["im-node", "provider", "consumer"] {
        let output = Program::run(name, &["--help"], &variables).await;
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("MSNB_REGISTRY") && !help.contains("hunter2"), "{name}: {help}");
    }
}

#[tokio::test]
async fn trace_log_contains_no_token_password_or_message() {
    let directory = tempfile::tempdir().unwrap();
    let (log, registry) = (directory.path().join("log"), format!("local:{}", directory.path().display()));
    let arguments = ["--listen", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--registry", &registry, "--dev-login"];
    let mut node = Program::start("im-node", &arguments, &[("RUST_LOG", "trace")], &log).await;
    let base = node.line_after("serves clients on ").await;
    let (password, message) = ("the password of ann", "the first message of ann");
    let token = until_ok(async || login(&base, "ann", password, "phone", "ios").await).await.token;
    let mut line = log_in(&format!("{}/ws", base.replace("http", "ws")), &token).await.unwrap();
    send(&mut line, "1", "bo", message).await;
    drop(line);
    assert!(node.terminate().await.success());
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("TRACE"), "the node logs at level trace: {text}");
    for secret in [&*token, password, message] {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        for form in [secret, &hex] {
            assert!(!text.contains(form), "{form}\n{text}");
        }
    }
}

#[tokio::test]
async fn node_names_files_that_others_can_access() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = tempfile::tempdir().unwrap();
    let (secret, log) = (directory.path().join("secret"), directory.path().join("log"));
    let (registry, path) = (format!("local:{}", directory.path().display()), secret.display().to_string());
    let arguments = ["--listen", "127.0.0.1:0", "--registry", &registry, "--secret", &path, "--dev-login"];
    for (mode, is_named) in [(0o600, false), (0o400, false), (0o640, true), (0o606, true)] {
        let _ = fs::remove_file(&secret);
        fs::write(&secret, [b'x'; 32]).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
        let mut node = Program::start("im-node", &arguments, &[("RUST_LOG", "warn")], &log).await;
        node.line_after("serves clients on ").await;
        let text = fs::read_to_string(&log).unwrap();
        assert_eq!(text.contains("other users of this machine can access this file"), is_named, "{mode:o}: {text}");
        assert!(node.terminate().await.success());
    }
}
