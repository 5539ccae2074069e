//! The examples of the documents: each command runs, and prints what the document shows, except for numbers.

use std::{
    collections::VecDeque,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use tests::{process::Provider, program::Program};

use super::{local, output, until_listed};

/// A command with the output that a document shows.
struct Example {
    command: String,
    output: Vec<String>,
}

/// Returns the commands in the blocks of a document.
fn examples(document: &str) -> VecDeque<Example> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(document);
    let text = fs::read_to_string(path).unwrap();
    let mut examples = VecDeque::new();
    for block in text.split("```text\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        for line in block.lines() {
            match (line.strip_prefix("$ "), examples.back_mut()) {
                (Some(command), _) => {
                    examples.push_back(Example { command: command.to_owned(), output: Vec::new() });
                }
                (None, Some(example)) => example.output.push(line.to_owned()),
                (None, None) => {}
            }
        }
    }
    examples
}

/// Returns lines without what differs between runs: numbers, digests and the widths of columns.
fn comparable(lines: impl Iterator<Item = impl AsRef<str>>) -> Vec<String> {
    let line = |line: &str| {
        let mut text = String::new();
        for word in line.split_whitespace() {
            let is_digest = word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
            let mut word = if is_digest { "0".to_owned() } else { word.replace(|c: char| c.is_ascii_digit(), "0") };
            while word.contains("00") {
                word = word.replace("00", "0");
            }
            text = text + &word + " ";
        }
        text.trim_end().to_owned()
    };
    lines.map(|one| line(one.as_ref())).filter(|line| !line.is_empty()).collect()
}

/// The commands whose output consists of measurements, or that run until Ctrl-C; other tests run them.
const MEASURED: [&str; 4] = ["ping", "press", "watch", "drill"];

#[tokio::test]
async fn examples_of_documents_print_what_they_show() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let registry = local(&path("registry"));
    let provider = Provider::start_with(&registry, &["--zone", "east", "--tag", "blue"]).await;
    until_listed(&registry, "blue").await;
    let address = provider.address().to_string();
    let feed =
        ["provide", "--registry", &local(&path("feed")), "--files", path("files").to_str().unwrap()].map(str::to_owned);
    let feed: Vec<&str> = feed.iter().map(String::as_str).collect();
    let mut feed = Program::start("feed", &feed, &[], &path("log")).await;
    let feed_address = feed.line_after(" on ").await;
    // The files of the examples.
    fs::create_dir(path("contracts")).unwrap();
    let mut changed: Value =
        serde_json::from_str(&output(&["describe", "shop.Goods:1.0", "--address", &address, "--json"]).await).unwrap();
    changed["methods"][0]["parameters"][0]["type"] = json!("string");
    fs::write(path("new.json"), changed.to_string()).unwrap();

    let binaries = Program::path("msnb").await.parent().unwrap();
    let search = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    let mut count = 0;
    for document in ["docs/CLI.md", "docs/SCHEMAS.md"] {
        for Example { command, output } in examples(document) {
            if MEASURED.iter().any(|measured| command.starts_with(&format!("msnb {measured}"))) {
                continue;
            }
            let here = |text: &str| text.replace("127.0.0.1:7788", &address).replace("127.0.0.1:7790", &feed_address);
            let Output { stdout, stderr, .. } = Command::new("sh")
                .args(["-c", &here(&command)])
                .current_dir(directory.path())
                .env("PATH", &search)
                .env("MSNB_REGISTRY", &registry)
                .env("NO_COLOR", "1")
                .stdin(Stdio::null())
                .output()
                .unwrap();
            // Errors precede what the shell prints after them.
            let printed = [stderr, stdout].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
            let (found, shown) = (comparable(printed.lines()), comparable(output.iter().map(|line| here(line))));
            assert_eq!(found, shown, "{document}: {command}");
            count += 1;
        }
    }
    assert!(count >= 16, "{count} examples were found");
}
