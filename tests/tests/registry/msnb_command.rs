//! The command `msnb` with Nacos: lists of services, foreign instances, and changes of an operator.

use std::{collections::BTreeMap, process::Output};

use rpc_core::ServiceId;
use serde_json::{Value, json};
use tests::{
    in_time,
    nacos::{ListedInstance, NacosServer, ServerKind},
    process::Provider,
    program::Program,
};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::official::on_servers;

static GREETER: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

/// Runs the command, and returns its exit code and the document that it prints.
async fn msnb(arguments: &[&str]) -> (i32, Value) {
    let arguments = [arguments, &["--json", "--timeout", "20s"]].concat();
    let Output { status, stdout, stderr } = Program::run("msnb", &arguments, &[]).await;
    let text = String::from_utf8(stdout).unwrap();
    let document = serde_json::from_str(&text);
    (status.code().unwrap(), document.unwrap_or_else(|error| panic!("{error}: {text} {stderr:?}")))
}

/// Waits until a command prints a document that `wanted` accepts, and returns it.
async fn until(arguments: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
    in_time(async {
        loop {
            let (code, document) = msnb(arguments).await;
            if code == 0 && wanted(&document) {
                return document;
            }
        }
    })
    .await
}

async fn services_are_listed_and_providers_changed(kind: ServerKind) {
    let server = NacosServer::start_kind(kind).await;
    let url = server.url();
    let (provider, other) = (Provider::start(&url).await, Provider::start(&url).await);
    let address = provider.address().to_string();
    server.wait_for(&GREETER, |listed| listed.len() == 2).await;
    // Instances of other frameworks: one in a service of its own, one among those of msnb.
    let foreign = |port: u16| ListedInstance {
        ip: "10.0.0.9".to_owned(),
        port,
        weight: 1.0,
        healthy: true,
        enabled: true,
        metadata: BTreeMap::from([("protocol".to_owned(), "dubbo".to_owned())]),
    };
    server.register(&GREETER, &foreign(20_880)).await;
    let at = ["--registry", &*url];
    let ls = [&["ls"][..], &at].concat();
    let row = |document: &Value| {
        let services = document["services"].as_array().unwrap();
        services.iter().find(|service| service["service"] == json!("demo.Greeter:1.0")).cloned().unwrap_or_default()
    };
    let listed = until(&ls, |document| row(document)["foreign"] == json!(1)).await;
    assert_eq!((&row(&listed)["providers"], &row(&listed)["disabled"]), (&json!(2), &json!(0)), "{listed}");
    assert_eq!(row(&listed)["contracts"].as_array().unwrap().len(), 1);
    let names: Vec<_> = listed["services"].as_array().unwrap().iter().map(|service| &service["service"]).collect();
    assert!(names.contains(&&json!("shop.Goods:1.0")) && !names.contains(&&json!("msnb.connection")), "{listed}");
    let of = [&["ls", "demo.Greeter:1.0"][..], &at].concat();
    let (_, instances) = msnb(&of).await;
    let find = |document: &Value, address: &str| {
        let providers = document["providers"].as_array().unwrap();
        providers.iter().find(|provider| provider["address"] == json!(address)).cloned()
    };
    assert_eq!(find(&instances, "10.0.0.9:20880").unwrap()["foreign"], json!(true));
    assert_eq!(find(&instances, &address).unwrap()["foreign"], json!(false));

    // Offline in all services, and back; the server keeps the weight.
    let (code, changed) = msnb(&[&["weight", &address, "2.5"][..], &at].concat()).await;
    assert_eq!((code, changed["changed"].as_array().unwrap().len()), (0, 2), "{changed}");
    let (code, changed) = msnb(&[&["offline", &address][..], &at].concat()).await;
    assert_eq!((code, &changed["changed"][0]["provider"]["enabled"]), (0, &json!(false)));
    assert_eq!(changed["changed"][0]["provider"]["weight"], json!(2.5));
    let left = server.wait_for(&GREETER, |listed| listed.iter().all(|one| one.address() != provider.address())).await;
    assert!(left.iter().any(|one| one.address() == other.address()));
    if kind != ServerKind::RNacos {
        // r-nacos does not list disabled instances.
        let listed = until(&of, |document| find(document, &address).is_some()).await;
        assert_eq!(find(&listed, &address).unwrap()["enabled"], json!(false));
    }
    let (code, changed) = msnb(&[&["online", &address][..], &at].concat()).await;
    assert_eq!((code, changed["changed"].as_array().unwrap().len()), (0, 2), "{changed}");
    let back = server.wait_for(&GREETER, |listed| listed.iter().any(|one| one.address() == provider.address())).await;
    let back = back.iter().find(|one| one.address() == provider.address()).unwrap();
    assert_eq!((back.weight, &*back.metadata["protocol"]), (2.5, "msnb"), "{back:?}");
    let (code, _) = msnb(&[&["offline", "10.9.9.9:1"][..], &at].concat()).await;
    assert_eq!(code, 5);
}

on_servers! { services_are_listed_and_providers_changed:
    msnb_lists_and_changes_on_r_nacos RNacos,
    msnb_lists_and_changes_on_official_2 Official2,
    msnb_lists_and_changes_on_official_3 Official3
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn msnb_logs_in_and_calls_through_nacos() {
    let server = NacosServer::start_with_user(ServerKind::RNacos).await;
    let (user, password) = server.credentials();
    let url = format!("{}?username={user}&password={password}", server.url());
    let provider = Provider::start(&url).await;
    let address = provider.address().to_string();
    let at = ["--registry", &*url];
    until(&[&["ls"][..], &at].concat(), |document| !document["services"].as_array().unwrap().is_empty()).await;
    let call = [&["call", "demo.Greeter:1.0/hello", r#"{"name": "Bo"}"#][..], &at].concat();
    let answer = until(&call, |document| document["result"].is_string()).await;
    assert_eq!(answer["result"], json!(format!("Hello Bo, from {address}")));
    let (code, changed) = msnb(&[&["offline", &address][..], &at].concat()).await;
    assert_eq!((code, &changed["changed"][0]["provider"]["enabled"]), (0, &json!(false)));
    let wrong = format!("{}?username={user}&password=hunter3", server.url());
    let (code, failed) = msnb(&["ls", "--registry", &wrong]).await;
    assert_eq!((code, &failed["error"]["code"]), (4, &json!("Unauthenticated")));
    assert!(!failed.to_string().contains("hunter3"), "{failed}");
    assert!(failed["error"]["fix"].as_str().unwrap().contains("the user and the password in the URL"), "{failed}");
}

/// The commands that `services_are_listed_and_providers_changed` does not run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_commands_find_providers_in_nacos() {
    let server = NacosServer::start_kind(ServerKind::RNacos).await;
    let url = server.url();
    let (provider, directory) = (Provider::start(&url).await, tempfile::tempdir().unwrap());
    let address = provider.address().to_string();
    server.wait_for(&GREETER, |listed| listed.len() == 1).await;
    let at = ["--registry", &*url];
    let (service, method, body) = ("demo.Greeter:1.0", "demo.Greeter:1.0/hello", r#"{"name": "Bo"}"#);
    let (code, contract) = msnb(&[&["describe", service][..], &at].concat()).await;
    assert_eq!((code, &contract["name"]), (0, &json!("demo.Greeter")), "{contract}");
    let file = directory.path().join("contract.json");
    std::fs::write(&file, contract.to_string()).unwrap();
    let (code, checked) = msnb(&["check", "--against", &url, file.to_str().unwrap()]).await;
    assert_eq!((code, &checked["breaks"]), (0, &json!(0)), "{checked}");
    let (code, pinged) = msnb(&[&["ping", service, "-c", "2", "-i", "1ms"][..], &at].concat()).await;
    assert_eq!((code, &pinged["received"], &pinged["address"]), (0, &json!(2), &json!(address)), "{pinged}");
    let (code, report) = msnb(&[&["press", method, body, "--seconds", "200ms"][..], &at].concat()).await;
    assert_eq!((code, &report["failed"]), (0, &json!(0)), "{report}");
    let exported = Program::run("msnb", &[&["export", "--typescript", service][..], &at].concat(), &[]).await;
    assert!(String::from_utf8(exported.stdout).unwrap().contains("hello(name: string)"));

    let log = |name: &str| directory.path().join(name);
    let mut watch = Program::start("msnb", &[&["watch", service][..], &at].concat(), &[], &log("watch")).await;
    assert!(watch.line_with(&address).await.contains("added"));
    assert!(watch.interrupt().await.success());
    let console = [&["console", "--listen", "127.0.0.1:0"][..], &at].concat();
    let mut console = Program::start("msnb", &console, &[], &log("console")).await;
    let (host, head) = (console.line_after("http://").await, "HTTP/1.1\r\nConnection: close\r\nHost:");
    let mut socket = tokio::net::TcpStream::connect(&host).await.unwrap();
    socket.write_all(format!("GET /services/{service} {head} {host}\r\n\r\n").as_bytes()).await.unwrap();
    let mut page = String::new();
    in_time(socket.read_to_string(&mut page)).await.unwrap();
    assert!(page.contains(&address) && page.contains("trait Greeter"), "{page}");
    assert!(console.terminate().await.success());

    let program = Program::path("provider").await.to_str().unwrap();
    let drill = ["drill", "rolling", "--call", method, "-d", body, "--providers", "2", "--timeout", "20s", "--json"];
    let drill = [&drill[..], &at, &["--", program, "--listen", "127.0.0.1:0"]].concat();
    let drilled = Program::run("msnb", &drill, &[]).await;
    let report: Value = serde_json::from_slice(&drilled.stdout).unwrap_or_default();
    assert_eq!((&report["passed"], &report["failed"]), (&json!(true), &json!(0)), "{drilled:?}");
}
