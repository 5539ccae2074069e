//! The commands `ls`, `describe`, `call`, `check`, `ping` and `watch` against the provider of the examples.

use std::fs;

use serde_json::{Value, json};
use tests::{
    process::{Provider, run},
    program::Program,
};

use super::{GREETER, document, fails, local, msnb, output, until_listed, vacant};

#[tokio::test]
async fn services_and_providers_are_listed() {
    let directory = tempfile::tempdir().unwrap();
    let registry = local(directory.path());
    let properties = ["--zone", "east", "--tag", "blue", "--tag", "green", "--weight", "2.5"];
    let provider = Provider::start_with(&registry, &properties).await;
    until_listed(&registry, "blue").await;
    let address = provider.address().to_string();

    let (code, listed) = document(&["ls", GREETER, "--registry", &registry]).await;
    let [found] = &listed["providers"].as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!((code, &listed["service"]), (0, &json!(GREETER)));
    assert_eq!((&found["address"], &found["weight"]), (&json!(address), &json!(2.5)));
    assert_eq!((&found["zone"], &found["tags"]), (&json!("east"), &json!(["blue", "green"])));
    let digest = found["contract"].as_str().unwrap();
    let table = output(&["ls", GREETER, "--registry", &registry]).await;
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ADDRESS", "WEIGHT", "STATE", "ZONE", "TAGS", "CONTRACT", "STARTED"]);
    assert_eq!(lines[1][..6], [&*address, "2.5", "enabled", "east", "blue,green", digest]);
    assert_eq!(found["started"].as_str(), Some(lines[1][6]));

    let services = output(&["ls", "--registry", &registry]).await;
    let lines: Vec<Vec<&str>> = services.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["SERVICE", "PROVIDERS", "DISABLED", "FOREIGN", "CONTRACT"]);
    assert_eq!((lines.len(), &lines[1][..]), (3, &[GREETER, "1", "0", "0", digest][..]));
    let (code, services) = document(&["ls", "--registry", &registry]).await;
    let expected = json!({ "service": GREETER, "providers": 1, "disabled": 0, "foreign": 0, "contracts": [digest] });
    assert_eq!((code, &services["registry"], &services["services"][0]), (0, &json!(registry), &expected));

    let services = output(&["ls", "--address", &address]).await;
    let of_greeter = services.lines().find(|line| line.starts_with(GREETER)).unwrap();
    assert!(of_greeter.contains(digest) && of_greeter.ends_with("hello"), "{services}");
    let (_, services) = document(&["ls", "--address", &address]).await;
    let names: Vec<_> = services["services"].as_array().unwrap().iter().map(|service| &service["service"]).collect();
    assert!(names.contains(&&json!("shop.Goods:1.0")), "{services}");
}

#[tokio::test]
async fn contract_is_printed_as_rust_json_and_template() {
    let directory = tempfile::tempdir().unwrap();
    let registry = local(directory.path());
    let provider = Provider::start(&registry).await;
    until_listed(&registry, "").await;
    let address = provider.address().to_string();
    for target in [["--registry", &registry], ["--address", &address]] {
        let rust = output(&[&["describe", GREETER][..], &target].concat()).await;
        for line in [
            "#[rpc_service(name = \"demo.Greeter\", version = \"1.0\")]",
            "    #[rpc(idempotent)]",
            "    async fn hello(&self, name: String) -> Result<String, GreetError>;",
            "    EmptyName,",
        ] {
            assert!(rust.lines().any(|other| other == line), "{line} is not in: {rust}");
        }
        let (code, contract) = document(&[&["describe", "demo.Greeter:1.0/hello"][..], &target].concat()).await;
        assert_eq!((code, &contract["methods"][0]["name"]), (0, &json!("hello")));
        let template = output(&[&["describe", "demo.Greeter:1.0/hello", "--template"][..], &target].concat()).await;
        assert_eq!(serde_json::from_str::<Value>(&template).unwrap(), json!({ "name": "" }));
    }
}

#[tokio::test]
async fn method_is_called_with_json() {
    let directory = tempfile::tempdir().unwrap();
    let registry = local(directory.path());
    let provider = Provider::start(&registry).await;
    until_listed(&registry, "").await;
    let address = provider.address().to_string();
    let file = directory.path().join("body.json");
    fs::write(&file, r#"{ "name": "Bo" }"#).unwrap();
    let from_file = format!("@{}", file.display());
    let expected = json!(format!("Hello Bo, from {address}"));
    let hello = "demo.Greeter:1.0/hello";
    for arguments in [
        &[r#"{"name": "Bo"}"#, "--registry", &registry][..],
        &["-d", &from_file, "--address", &address, "--metadata", "tenant=a", "--timeout", "30s"],
    ] {
        let printed = output(&[&["call", hello], arguments].concat()).await;
        assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), expected);
        let (code, printed) = document(&[&["call", hello], arguments].concat()).await;
        assert_eq!((code, printed), (0, json!({ "result": expected })));
    }
    let (code, stdout, stderr) =
        msnb(&["call", hello, r#"{"name": "Bo"}"#, "--registry", &registry, "--explain"]).await;
    assert!(code == 0 && stdout.contains("Hello Bo"), "{stderr}");
    assert!(stderr.contains(&format!("sent to {address} after")), "{stderr}");
    let tagged = ["call", hello, r#"{"name": "Bo"}"#, "--registry", &registry, "--tag", "blue", "--explain"];
    let (code, explained) = document(&tagged).await;
    assert_eq!((code, &explained["result"]), (0, &expected), "no provider has the tag, so that others are called");
    assert_eq!(explained["explanation"]["candidates"][0]["address"], json!(address));
    let (code, failed) = document(&["call", hello, r#"{"name": ""}"#, "--address", &address]).await;
    assert_eq!((code, &failed["error"]["service_error"]), (3, &json!("EmptyName")));
    let (code, _, stderr) = msnb(&["call", "shop.Goods:1.0/find_goods", r#"{"id": 9}"#, "--address", &address]).await;
    assert!(code == 3 && stderr.contains(r#"{"NotFound":{"id":9}}"#), "{stderr}");
}

#[tokio::test]
async fn invalid_input_says_how_to_fix_it() {
    let directory = tempfile::tempdir().unwrap();
    let registry = local(directory.path());
    let provider = Provider::start(&registry).await;
    until_listed(&registry, "").await;
    let address = provider.address().to_string();
    let at = ["--address", &*address];
    let hello = |body: &'static str| [&["call", "demo.Greeter:1.0/hello", body][..], &at].concat();
    let template = format!("`msnb describe demo.Greeter:1.0/hello --template --address {address}`");

    fails(&hello("{name: 1}"), 2, &["not valid JSON: key must be a string at line 1 column 2", &template]).await;
    fails(&hello("[1]"), 2, &["not a JSON object", &template]).await;
    fails(&hello("-"), 2, &["not valid JSON: EOF"]).await;
    fails(&hello(r#"{"name": 5}"#), 2, &["InvalidArgument", "the parameters are name: String", &template]).await;
    fails(&hello("{}"), 2, &["InvalidArgument", "`name`", &template]).await;
    let call = |route: &'static str| [&["call", route, "{}"][..], &at].concat();
    fails(&call("demo.Greeter:1.0/hi"), 4, &["Unimplemented", "demo.Greeter:1.0 has the methods hello"]).await;
    fails(&call("demo.None:1.0/hi"), 4, &["Unimplemented", "the server has the services demo.Greeter:1.0"]).await;
    fails(&["call", "demo.Greeter:1.0", "--registry", &registry], 2, &["write demo.Greeter:1.0/METHOD"]).await;
    fails(&["call", "a.B:1.0/c", "-d", "@/missing"], 2, &["cannot read /missing", "@FILE"]).await;

    let none = ["ls", "demo.None:1.0", "--registry", &registry];
    fails(&none, 5, &["lists no provider of demo.None:1.0", "--address"]).await;
    let none = ["call", "demo.None:1.0/hi", "--registry", &registry, "--timeout", "2s"];
    fails(&none, 5, &["Unavailable", "`msnb ls demo.None:1.0`"]).await;
    fails(&[&["describe", "demo.None:1.0"][..], &at].concat(), 4, &["NotFound", "`msnb ls --address"]).await;
    fails(&[&["describe", "demo.Greeter:1.0/hi"][..], &at].concat(), 4, &["the methods are: hello"]).await;
    let vacant = vacant().to_string();
    let unreachable = ["call", "demo.Greeter:1.0/hello", "{}", "--address", &vacant, "--timeout", "2s"];
    fails(&unreachable, 5, &["Unavailable", &vacant, "check that an msnb server listens"]).await;
    fails(&["ls", "--address", "nowhere"], 2, &["cannot resolve", "a host and a port"]).await;
    let fixed = format!("fixed:{address}");
    fails(&["ls", "--registry", &fixed], 4, &["cannot list its services", "--address"]).await;
    fails(&["ls", GREETER, "--registry", "ldap://x"], 2, &["MSNB_REGISTRY"]).await;

    for (arguments, text) in [
        (&["ls", "demo.Greeter"][..], "such as demo.Greeter:1.0"),
        (&["call", "demo.Greeter/hello"], "such as demo.Greeter:1.0"),
        (&["call", "demo.Greeter:1.0/hello", "--timeout", "5d"], "expected ms, s, m or h"),
        (&["call", "demo.Greeter:1.0/hello", "--metadata", "a"], "expected KEY=VALUE"),
    ] {
        let (code, _, stderr) = msnb(arguments).await;
        assert!(code == 2 && stderr.contains(text), "{arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn token_and_tls_options_are_used() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    assert!(run("certificates", &[directory.path().to_str().unwrap()]).await.status.success());
    fs::write(file("tokens"), "ann:the secret of ann, the caller\n").unwrap();
    let [ca, cert, key, tokens] = ["ca.pem", "server.pem", "server.key", "tokens"].map(file);
    let secure = ["--tls-cert", &cert, "--tls-key", &key, "--accepted-tokens", &tokens];
    let provider = Provider::start_with("memory:", &secure).await;
    let address = provider.address().to_string();
    let tls = ["--address", &*address, "--tls-ca", &ca, "--tls-name", "localhost", "--timeout", "10s"];
    let hello = [&["call", "demo.Greeter:1.0/hello", r#"{"name": "Bo"}"#][..], &tls].concat();
    let printed = output(&[&hello[..], &["--token-file", &tokens]].concat()).await;
    assert!(printed.contains("Hello Bo"), "{printed}");
    let described = output(&[&["describe", GREETER][..], &tls, &["--token-file", &tokens]].concat()).await;
    assert!(described.contains("trait Greeter"), "{described}");
    let secured = [&tls[..], &["--token-file", &tokens]].concat();
    let press = ["press", "demo.Greeter:1.0/hello", r#"{"name": "Bo"}"#, "--seconds", "100ms"];
    let (code, report) = document(&[&press[..], &secured].concat()).await;
    assert_eq!((code, &report["failed"]), (0, &json!(0)));
    let exported = output(&[&["export", "--typescript"][..], &secured].concat()).await;
    assert!(exported.contains("hello(name: string): Promise<string>;"), "{exported}");
    let printed = output(&[&["ping", &address, "--count", "1"][..], &secured[2..]].concat()).await;
    assert!(printed.contains("1 calls sent, 1 answered"), "{printed}");
    fails(&hello, 4, &["Unauthenticated", "--token-file"]).await;
    let plain = ["ls", "--address", &address, "--timeout", "2s", "--token-file", &tokens];
    fails(&plain, 5, &["Unavailable", "--tls-ca"]).await;
}

#[tokio::test]
async fn check_reports_breaks_of_contract() {
    let directory = tempfile::tempdir().unwrap();
    let provider = Provider::start("memory:").await;
    let address = provider.address().to_string();
    let old = directory.path().join("old.json");
    let new = directory.path().join("new.json");
    let json = output(&["describe", "shop.Goods:1.0", "--address", &address, "--json"]).await;
    fs::write(&old, &json).unwrap();
    let mut changed: Value = serde_json::from_str(&json).unwrap();
    changed["methods"][0]["parameters"][0]["type"] = json!("string");
    fs::write(&new, changed.to_string()).unwrap();
    let [old, new] = [&old, &new].map(|path| path.to_str().unwrap());

    let fixed = format!("fixed:{address}");
    for against in [old, &address, &fixed] {
        let unchanged = output(&["check", "--against", against, old]).await;
        assert_eq!(unchanged, "changes: 0, breaks at level name: 0\n");
        let (code, printed, _) = msnb(&["check", "--against", against, new]).await;
        let expected =
            "BREAK type: `find_goods/id` from u64 to String, breaks wire by position, wire by name, source\n";
        assert!(code == 1 && printed.starts_with(expected), "{printed}");
        let (code, printed) = document(&["check", "--against", against, new]).await;
        assert_eq!((code, &printed["breaks"], &printed["changes"][0]["rule"]), (1, &json!(1), &json!("type")));
        let (code, printed, _) = msnb(&["check", "--against", against, new, "--format", "github"]).await;
        assert!(code == 1 && printed.starts_with(&format!("::error file={new},title=type::type: ")), "{printed}");
    }
    // An added method breaks nothing but the source of providers.
    changed = serde_json::from_str(&json).unwrap();
    let mut added = changed["methods"][0].clone();
    added["name"] = json!("find_all");
    changed["methods"].as_array_mut().unwrap().push(added);
    fs::write(new, changed.to_string()).unwrap();
    for (level, expected) in [("name", 0), ("position", 0), ("source", 1)] {
        let (code, printed, _) = msnb(&["check", "--against", old, new, "--level", level]).await;
        assert!(code == expected && printed.contains("method-added: `find_all`"), "{level}: {printed}");
    }
    fs::write(new, "{").unwrap();
    fails(&["check", "--against", old, new], 2, &["is not the JSON form", "`msnb describe SERVICE --json"]).await;
    fails(&["check", "--against", "/missing", old], 2, &["cannot read /missing"]).await;
}

#[tokio::test]
async fn ping_prints_times_and_statistics() {
    let provider = Provider::start("memory:").await;
    let address = provider.address().to_string();
    let printed = output(&["ping", &address, "--count", "3", "--interval", "1ms"]).await;
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[0].starts_with(&format!("PING {address}: connected in ")), "{printed}");
    assert!(lines[3].starts_with(&format!("answer from {address}: seq=3 time=")) && lines[3].ends_with(" ms"));
    assert_eq!(lines[5], format!("--- {address} ping statistics ---"));
    assert!(lines[6].starts_with("3 calls sent, 3 answered, 0% loss, time "), "{printed}");
    assert!(lines[7].starts_with("rtt min/avg/max/mdev = ") && lines[7].matches('/').count() == 6, "{printed}");
    let (code, printed) = document(&["ping", &address, "--count", "2", "--interval", "1ms"]).await;
    assert_eq!((code, &printed["sent"], &printed["received"]), (0, &json!(2), &json!(2)));
    assert!(printed["rtt_ms"]["min"].as_f64().unwrap() > 0.0, "{printed}");

    // The providers of a service are called in turn.
    let directory = tempfile::tempdir().unwrap();
    let registry = local(directory.path());
    let (one, other) = (Provider::start(&registry).await, Provider::start(&registry).await);
    until_listed(&registry, "").await;
    let of_service = ["ping", GREETER, "--registry", &registry, "-i", "1ms"];
    let printed = output(&[&of_service[..], &["--count", "4"]].concat()).await;
    let from = |provider: &Provider| printed.matches(&format!("answer from {}: seq=", provider.address())).count();
    assert_eq!((from(&one), from(&other)), (2, 2), "{printed}");
    assert!(printed.contains(&format!("--- {GREETER} ping statistics ---")), "{printed}");
    let (code, printed) = document(&[&of_service[..], &["-c", "2"]].concat()).await;
    assert_eq!((code, printed["addresses"].as_array().unwrap().len()), (0, 2), "{printed}");
    fails(&["ping", "demo.None:1.0", "--registry", &registry], 5, &["lists no provider of demo.None:1.0"]).await;

    let vacant = vacant().to_string();
    let (code, printed) = document(&["ping", &vacant, "-c", "1", "--timeout", "1s"]).await;
    assert_eq!((code, &printed["received"], &printed["rtt_ms"]["min"]), (1, &json!(0), &Value::Null));
}

#[tokio::test]
async fn watch_prints_changes_as_they_happen() {
    let directory = tempfile::tempdir().unwrap();
    let registry = local(&directory.path().join("registry"));
    let log = directory.path().join("log");
    let mut watch = Program::start("msnb", &["watch", GREETER, "--registry", &registry, "--json"], &[], &log).await;
    let mut provider = Provider::start(&registry).await;
    let address = json!(provider.address());
    for change in ["added", "removed"] {
        let line: Value = serde_json::from_str(&watch.line().await).unwrap();
        assert_eq!((&line["change"], &line["provider"]["address"]), (&json!(change), &address));
        if change == "added" {
            provider.terminate();
        }
    }
    assert!(provider.wait().await.0.success());
    assert!(watch.terminate().await.success());
}
