//! The clients in examples/python, which were written from docs/PROTOCOL.md alone, call a provider of msnb.

use std::{net::SocketAddr, path::Path, process::Output};

use rpc_server::ServerConfig;
use tests::{in_time, process::Provider, wire::Listening};
use tokio::process::Command;

/// Runs the client, or returns `None` if Python does not run.
async fn python(arguments: &[&str]) -> Option<Output> {
    script("client.py", arguments).await
}

/// Runs a program of examples/python, or returns `None` if Python does not run.
async fn script(name: &str, arguments: &[&str]) -> Option<Output> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python").join(name);
    let mut command = Command::new("python3");
    // Without compiled files in the source tree.
    command.arg("-B").arg(program).args(arguments).env("PYTHONIOENCODING", "utf-8").kill_on_drop(true);
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
async fn python_client_calls_provider() {
    let directory = tempfile::tempdir().expect("a temporary directory is available");
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
    let (output_text, error_text) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{error_text}");
    assert!(output_text.contains("hello '': application error \"EmptyName\"\n"), "{output_text}");
    assert!(output_text.contains("good -1: InvalidArgument: "), "{output_text}");
}

#[tokio::test]
async fn python_client_sends_and_receives_streams() {
    let server = Listening::start(ServerConfig::default()).await;
    // 200 items of 1000 bytes: each stream needs more than its initial credit.
    let Some(output) = script("streams.py", &[&server.address().to_string(), "--timeout", "30"]).await else { return };
    let expected = "count: 200 items, in order: True\n\
                    collect: 200\n\
                    echo: Zoë\n\
                    no such stream: Unimplemented: test.Wire:1.0/count has a stream as its result here, and the caller \
                    expects otherwise\n";
    assert_eq!((text(&output.stdout), text(&output.stderr)), (expected.to_owned(), String::new()));
    assert!(output.status.success());
}

#[tokio::test]
async fn python_client_reports_connection_failure() {
    // The listener of this port has just closed.
    let free = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await;
    let address = free.and_then(|listener| listener.local_addr()).expect("a port is free");
    for (arguments, code, message) in
        [([address.to_string()], 1, "failed: "), (["no port".to_owned()], 2, "is not HOST:PORT")]
    {
        let arguments = arguments.each_ref().map(String::as_str);
        let Some(output) = python(&arguments).await else { return };
        assert_eq!(output.status.code(), Some(code));
        assert!(text(&output.stderr).contains(message), "{}", text(&output.stderr));
    }
}

#[tokio::test]
async fn python_client_prints_usage() {
    let Some(output) = python(&["--help"]).await else { return };
    assert!(output.status.success());
    assert!(text(&output.stdout).contains("HOST:PORT"));
}
