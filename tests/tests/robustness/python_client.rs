//! The client in examples/python, which was written from docs/PROTOCOL.md alone, calls the real provider.

use std::{net::SocketAddr, path::Path, process::Output};

use tests::{in_time, process::Provider};
use tokio::process::Command;

/// Runs the client; `None` where there is no Python.
async fn python(arguments: &[&str]) -> Option<Output> {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python/client.py");
    let mut command = Command::new("python3");
    command.arg(client).args(arguments).env("PYTHONIOENCODING", "utf-8").kill_on_drop(true);
    match in_time(command.output()).await {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("skipped: python3 does not run: {error}");
            None
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace("\r\n", "\n")
}

#[tokio::test]
async fn a_client_in_another_language_calls_and_is_answered() {
    let directory = tempfile::tempdir().expect("a directory for the registry");
    let provider = Provider::start(&format!("local:{}", directory.path().display())).await;
    let address = provider.address();
    let Some(output) = python(&[&address.to_string(), "--name", "Zoë", "--timeout", "30"]).await else { return };
    let expected = format!(
        "ping: pong\n\
         hello 'Zoë': \"Hello Zoë, from {address}\"\n\
         good 1: {{\"id\": 1, \"name\": \"teapot\", \"price\": 2499}}\n\
         good 404: application error {{\"NotFound\": {{\"id\": 404}}}}\n\
         no such method: Unimplemented: no such method here: demo.Greeter:1.0/bye\n"
    );
    assert_eq!((text(&output.stdout), text(&output.stderr)), (expected, String::new()));
    assert!(output.status.success());

    let Some(output) = python(&[&address.to_string(), "--name", "", "--id", "-1"]).await else { return };
    let (told, complaints) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{complaints}");
    assert!(told.contains("hello '': application error \"EmptyName\"\n"), "{told}");
    assert!(told.contains("good -1: InvalidArgument: "), "{told}");
}

#[tokio::test]
async fn a_client_that_reaches_nobody_says_so() {
    // A port that was free a moment ago, and that nobody listens on.
    let free = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await;
    let address = free.and_then(|listener| listener.local_addr()).expect("there is a free port");
    for (arguments, code, complaint) in
        [([address.to_string()], 1, "failed: "), (["no port".to_owned()], 2, "is not HOST:PORT")]
    {
        let arguments = arguments.each_ref().map(String::as_str);
        let Some(output) = python(&arguments).await else { return };
        assert_eq!(output.status.code(), Some(code));
        assert!(text(&output.stderr).contains(complaint), "{}", text(&output.stderr));
    }
}

#[tokio::test]
async fn the_client_says_how_it_is_used() {
    let Some(output) = python(&["--help"]).await else { return };
    assert!(output.status.success());
    assert!(text(&output.stdout).contains("HOST:PORT"));
}
