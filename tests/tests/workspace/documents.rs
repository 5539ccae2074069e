//! The documents: they name files that are there, and the READMEs of both languages say the same.

use std::{
    fs,
    path::{Path, PathBuf},
};

const DOCUMENTS: [&str; 7] = [
    "README.md",
    "README.zh-CN.md",
    "docs/ARCHITECTURE.md",
    "docs/IM.md",
    "docs/NACOS.md",
    "docs/SECURITY.md",
    "docs/STYLE.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap()
}

/// What stands between `start` and the next `end`, each time.
fn between<'a>(text: &'a str, start: &'a str, end: char) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1).filter_map(move |rest| Some(rest.split_once(end)?.0))
}

#[test]
fn links_and_paths_lead_to_files() {
    for document in DOCUMENTS {
        let text = read(document);
        let beside = root().join(document).parent().unwrap().to_owned();
        let links = between(&text, "](", ')').filter(|link| !link.contains("://"));
        let links: Vec<PathBuf> = links.map(|link| beside.join(link.split('#').next().unwrap())).collect();
        // Ours alone: STYLE.md names files of other projects too.
        let ours = ["rpc-", "tests/", "examples/", "bench/"];
        let paths = text.split('`').filter(|code| {
            let is_path = code.ends_with(".rs") || code.ends_with('/');
            is_path && !code.contains(char::is_whitespace) && ours.iter().any(|start| code.starts_with(start))
        });
        let paths: Vec<PathBuf> = paths.map(|path| root().join(path)).collect();
        assert!(!links.is_empty() || !paths.is_empty(), "{document} names nothing");
        for path in links.into_iter().chain(paths) {
            assert!(path.exists(), "{document} names {}, which is not there", path.display());
        }
    }
}

#[test]
fn the_tests_that_are_named_for_the_rows_of_the_im_cluster_are_there() {
    let mut sources = String::new();
    let mut directories = vec![root().join("tests/tests"), root().join("rpc-im/src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources += &fs::read_to_string(path).unwrap();
            }
        }
    }
    let text = read("docs/IM.md");
    let (_, rows) = text.split_once("## The rows").unwrap();
    let numbered = rows.lines().filter(|line| line.starts_with('|')).skip(2);
    for (number, row) in (1..).zip(numbered) {
        assert!(row.starts_with(&format!("| {number} |")), "{row}");
        assert!(row.split('`').any(is_test), "row {number} has no test");
    }
    let named: Vec<_> = rows.split('`').filter(|code| is_test(code)).collect();
    assert!(named.len() > 18);
    for name in named {
        assert!(sources.contains(&format!("fn {name}()")), "docs/IM.md names the test {name}, which is not there");
    }
}

/// Whether it can be the name of a test, and of no type or file: they say something, in several words.
fn is_test(code: &str) -> bool {
    code.matches('_').count() >= 3 && code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[test]
fn the_readmes_have_the_same_sections_tables_and_code() {
    let outline = |document: &str| {
        let text = read(document);
        let mut code = false;
        let mut outline = Vec::new();
        for line in text.lines() {
            let fence = line.starts_with("```");
            code ^= fence;
            if code || fence {
                outline.push(line.to_owned());
            } else if line.starts_with('#') {
                outline.push(line.chars().take_while(|c| *c == '#').collect());
            } else if line.starts_with("| ") || line.starts_with("- ") {
                outline.push(line[..1].to_owned());
            }
        }
        outline
    };
    let (english, chinese) = (outline("README.md"), outline("README.zh-CN.md"));
    assert_eq!(english, chinese);
    assert!(english.iter().any(|line| line == "```rust"), "the example is there");
}
