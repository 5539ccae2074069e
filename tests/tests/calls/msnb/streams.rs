//! `msnb call` with methods that have streams, against the program `feed`.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tests::program::Program;

use super::{document, fails, msnb, output};

/// A provider of `shop.Feed:1.0`.
pub(super) struct Feed {
    pub(super) address: String,
    directory: tempfile::TempDir,
    _provider: Program,
}

impl Feed {
    pub(super) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (registry, files) = (format!("local:{}", path("registry").display()), path("files"));
        let arguments = ["provide", "--registry", &registry, "--files", files.to_str().unwrap()];
        let mut provider = Program::start("feed", &arguments, &[], &path("log")).await;
        let address = provider.line_after(" on ").await;
        Self { address, directory, _provider: provider }
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    async fn call(&self, arguments: &[&str]) -> Program {
        let all = [&["call", "--address", &self.address], arguments].concat();
        Program::start_interactive("msnb", &all, Path::new(&self.path("call.log"))).await
    }
}

#[tokio::test]
async fn items_of_callee_are_lines_until_interrupted() {
    let feed = Feed::start().await;
    for is_json in [false, true] {
        let flags: &[&str] = if is_json { &["--json"] } else { &[] };
        let mut call = feed.call(&[&["shop.Feed:1.0/prices", r#"{"good": "tea"}"#], flags].concat()).await;
        let mut numbers = Vec::new();
        for _ in 0..3 {
            let line: Value = serde_json::from_str(&call.line().await).unwrap();
            let price = if is_json { &line["item"] } else { &line };
            numbers.push(price["number"].as_u64().unwrap());
        }
        assert_eq!(numbers, [numbers[0], numbers[0] + 1, numbers[0] + 2]);
        assert_eq!(call.interrupt().await.code(), Some(130));
    }
}

#[tokio::test]
async fn items_of_caller_are_lines_of_stdin_or_a_file() {
    let feed = Feed::start().await;
    let parts = feed.path("parts");
    fs::write(&parts, "[1, 2]\n\n[3]\n").unwrap();
    let upload = ["call", "shop.Feed:1.0/upload", r#"{"name": "a"}"#, "--address", &feed.address];
    let printed = output(&[&upload[..], &["--items", &parts]].concat()).await;
    let receipt: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(receipt["bytes"], json!(3));
    assert_eq!(fs::read(feed.path("files/a")).unwrap(), [1, 2, 3]);
    let (code, printed) = document(&[&upload[..], &["--items", &parts, "--explain"]].concat()).await;
    assert_eq!((code, &printed["result"]), (0, &receipt));
    assert_eq!(printed["explanation"]["attempts"][0]["address"], json!(feed.address));

    let mut call = feed.call(&["shop.Feed:1.0/upload", "-d", r#"{"name": "b"}"#]).await;
    call.write_line("[4]").await;
    call.end_input();
    let (status, lines) = call.wait().await;
    let receipt: Value = serde_json::from_str(&lines.concat()).unwrap();
    assert!(status.success() && receipt["bytes"] == json!(1), "{lines:?}");

    fs::write(&parts, "[1]\n{\n").unwrap();
    let invalid = [&upload[..], &["--items", &parts]].concat();
    fails(&invalid, 2, &["line 2 of the items", "one line of JSON"]).await;
    fs::write(&parts, "true\n").unwrap();
    fails(&invalid, 2, &["InvalidArgument", "each line of the items is of type Bytes"]).await;
    fails(&[&upload[..], &["--items", "/missing"]].concat(), 2, &["cannot read /missing"]).await;
}

#[tokio::test]
async fn both_streams_are_open_at_a_time() {
    let feed = Feed::start().await;
    let talk = ["shop.Feed:1.0/talk", "-d", r#"{"room": "lobby", "author": "Bo"}"#, "--json"];
    let mut call = feed.call(&talk).await;
    for text in ["hello", "bye"] {
        call.write_line(&json!(text).to_string()).await;
        let line: Value = serde_json::from_str(&call.line().await).unwrap();
        assert_eq!(line, json!({ "item": { "author": "Bo", "text": text } }));
    }
    call.end_input();
    let (status, lines) = call.wait().await;
    assert_eq!((status.code(), &*lines.concat()), (Some(0), r#"{"items":2}"#));

    let mut call = feed.call(&talk).await;
    call.write_line("1").await;
    let (status, lines) = call.wait().await;
    let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap_or_default();
    assert!(status.code() == Some(2) || last.get("error").is_some(), "{lines:?}");
}

#[tokio::test]
async fn failed_stream_says_why() {
    let feed = Feed::start().await;
    let prices = ["call", "shop.Feed:1.0/prices", "--address", &feed.address];
    let good = |arguments: &'static str| [&prices[..], &[arguments]].concat();
    let (code, _, stderr) = msnb(&good(r#"{"good": ""}"#)).await;
    assert!(code == 2 && stderr.contains("the good has no name"), "{stderr}");
    fails(&good("{}"), 2, &["missing field `good`", "the parameters are good: String"]).await;
}
