//! The commands against a provider that requires TLS and a token.

use std::{fs, path::Path};

use serde_json::json;
use tests::{
    process::{Provider, run},
    program::Program,
};

use super::{GREETER, console::request, document, local, msnb, output};

const HELLO: &str = "demo.Greeter:1.0/hello";
const BODY: &str = r#"{"name": "Bo"}"#;

/// A provider that requires TLS and a token, and reports counters, in a registry of its own.
struct Scene {
    registry: String,
    provider: Provider,
    /// The options of a provider.
    provides: Vec<String>,
    /// The options of a caller.
    calls: Vec<String>,
    directory: tempfile::TempDir,
}

impl Scene {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        assert!(run("certificates", &[directory.path().to_str().unwrap()]).await.status.success());
        fs::write(path("tokens"), "ann:the secret of ann, the caller\n").unwrap();
        let registry = local(&directory.path().join("registry"));
        let files = ["server.pem", "server.key", "tokens"].map(path);
        let options = ["--tls-cert", "--tls-key", "--accepted-tokens"];
        let provides: Vec<_> =
            options.iter().zip(files).flat_map(|(option, file)| [(*option).to_owned(), file]).collect();
        let [ca, tokens] = ["ca.pem", "tokens"].map(path);
        let calls = ["--tls-ca", &ca, "--tls-name", "localhost", "--token-file", &tokens, "--timeout", "10s"];
        let calls = calls.map(str::to_owned).to_vec();
        let arguments: Vec<&str> = provides.iter().map(String::as_str).chain(["--admin"]).collect();
        let provider = Provider::start_with(&registry, &arguments).await;
        Self { registry, provider, provides, calls, directory }
    }

    fn in_registry<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let options = self.calls.iter().map(String::as_str);
        arguments.iter().copied().chain(["--registry", &self.registry]).chain(options).collect()
    }
}

#[tokio::test]
async fn commands_use_tls_and_tokens_through_registry() {
    let scene = Scene::start().await;
    let address = scene.provider.address().to_string();
    let expected = json!(format!("Hello Bo, from {address}"));
    // A call waits until the provider is listed.
    let (code, answer) = document(&scene.in_registry(&["call", HELLO, BODY])).await;
    assert_eq!((code, &answer["result"]), (0, &expected), "{answer}");
    let table = output(&scene.in_registry(&["ls", GREETER])).await;
    assert!(table.contains(&address), "{table}");
    let file = scene.directory.path().join("contract.json");
    fs::write(&file, output(&scene.in_registry(&["describe", GREETER, "--json"])).await).unwrap();
    let file = file.to_str().unwrap();
    for against in [&address, &scene.registry] {
        let checked = output(&scene.in_registry(&["check", "--against", against, file])).await;
        assert_eq!(checked, "changes: 0, breaks at level name: 0\n");
    }
    let (code, pinged) = document(&scene.in_registry(&["ping", GREETER, "-c", "2", "-i", "1ms"])).await;
    assert_eq!((code, &pinged["received"], &pinged["address"]), (0, &json!(2), &json!(address)), "{pinged}");
    let (code, report) = document(&scene.in_registry(&["press", HELLO, BODY, "--seconds", "200ms"])).await;
    assert_eq!((code, &report["failed"]), (0, &json!(0)), "{report}");
    let exported = output(&scene.in_registry(&["export", "--proto", GREETER])).await;
    assert!(exported.contains("service Greeter"), "{exported}");

    let program = Program::path("provider").await.to_str().unwrap();
    let mut drill = scene.in_registry(&["drill", "rolling", "--call", HELLO, "-d", BODY, "--providers", "2", "--json"]);
    drill.extend(["--", program, "--listen", "127.0.0.1:0"]);
    drill.extend(scene.provides.iter().map(String::as_str));
    let (code, stdout, stderr) = msnb(&drill).await;
    assert!(code == 0 && stdout.contains("\"passed\": true"), "{stdout}{stderr}");
}

#[tokio::test]
async fn console_calls_provider_with_tls_and_token() {
    let scene = Scene::start().await;
    let (code, answer) = document(&scene.in_registry(&["call", HELLO, BODY])).await;
    assert_eq!(code, 0, "{answer}");
    let start = async |arguments: &[&str], log: &str| {
        let log = scene.directory.path().join(log);
        let mut console = Program::start("msnb", arguments, &[], Path::new(&log)).await;
        let address = console.line_after("http://").await;
        (console, address)
    };
    let open = scene.in_registry(&["console", "--listen", "127.0.0.1:0", "--allow-calls"]);
    let (console, address) = start(&open, "secured").await;
    let get = async |address: &str, path: &str| {
        request(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}"), "").await
    };
    let (_, page) = get(&address, &format!("/services/{GREETER}")).await;
    assert!(page.contains("trait Greeter"), "{page}");
    let (_, counters) = get(&address, &format!("/counters/{GREETER}")).await;
    assert!(counters.contains("<tr data-method=\"hello\"><td>hello</td>"), "{counters}");
    let (_, form) = get(&address, &format!("/services/{HELLO}")).await;
    let token = form.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let head = format!(
        "POST /services/{HELLO} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-www-form-urlencoded"
    );
    let (_, called) = request(&address, &head, &format!("token={token}&parameter-0=Bo")).await;
    assert!(called.contains("Hello Bo, from"), "{called}");
    assert!(console.terminate().await.success());

    // Without the token, the pages state why the provider does not answer.
    let without: Vec<&str> =
        open.iter().copied().filter(|word| !word.ends_with("tokens") && *word != "--token-file").collect();
    let (console, address) = start(&without, "without").await;
    let (_, page) = get(&address, &format!("/services/{GREETER}")).await;
    assert!(page.contains("Unauthenticated") && page.contains("No provider describes its contract"), "{page}");
    assert!(console.terminate().await.success());
}
