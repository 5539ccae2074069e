//! The documents name existing files and symbols, and the READMEs of both languages have the same structure.

use std::{collections::BTreeSet, fs, path::PathBuf};

use crate::{
    prose::test_functions,
    sources::{FILES, LANGUAGES, chapters_in, read, root, shown},
    symbols::Symbols,
};

/// Returns the paths of the documents: the `.md` files in the root of the workspace, in `docs/`, and of the book.
pub(crate) fn documents() -> Vec<String> {
    let mut directories = vec![root().to_owned(), root().join("docs")];
    directories
        .extend(LANGUAGES.map(|language| root().join(chapters_in(language))).into_iter().filter(|path| path.exists()));
    let in_directory = |directory: &PathBuf| fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = directories.iter().flat_map(in_directory).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    found.sort();
    found.iter().map(|path| shown(path)).collect()
}

/// Returns the headings, code and numbers of rows and list entries of a document, which are the same in each language.
pub(crate) fn outline(document: &str) -> Vec<String> {
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
}

/// Returns the section `heading` of a document, without the heading.
pub(crate) fn section(document: &str, heading: &str) -> String {
    let text = read(document);
    let parts = text.split_once(&format!("\n## {heading}\n"));
    let (_, section) = parts.unwrap_or_else(|| panic!("{document} has no section {heading}"));
    section.split("\n## ").next().unwrap().to_owned()
}

/// Returns the texts between each `start` and the next `end`.
fn between<'a>(text: &'a str, start: &'a str, end: char) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1).filter_map(move |rest| Some(rest.split_once(end)?.0))
}

#[test]
fn links_and_paths_name_existing_files() {
    let mut missing = Vec::new();
    for document in documents() {
        let text = read(&document);
        let beside = root().join(&document).parent().unwrap().to_owned();
        let links = between(&text, "](", ')').filter(|link| !link.contains("://"));
        let links: Vec<PathBuf> = links.map(|link| beside.join(link.split('#').next().unwrap())).collect();
        // STYLE.md also names files of other projects, so check only paths that start with a directory of this one.
        let ours = ["rpc-", "tests/", "examples/", "bench/"];
        let paths = text.split('`').filter(|code| {
            let is_path = code.ends_with(".rs") || code.ends_with('/');
            is_path && !code.contains(char::is_whitespace) && ours.iter().any(|start| code.starts_with(start))
        });
        let paths: Vec<PathBuf> = paths.map(|path| root().join(path)).collect();
        assert!(!links.is_empty() || !paths.is_empty(), "{document} contains neither a link nor a path");
        let absent = links.into_iter().chain(paths).filter(|path| !path.exists());
        missing.extend(absent.map(|path| format!("{document} names {}", shown(&path))));
    }
    assert!(missing.is_empty(), "these files do not exist:\n{}", missing.join("\n"));
}

/// Returns the id of a heading, as GitHub and mdBook derive it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn anchors_of_links_name_existing_sections() {
    let mut missing = Vec::new();
    for document in documents() {
        let text = read(&document);
        let beside = root().join(&document).parent().unwrap().to_owned();
        for link in between(&text, "](", ')').filter(|link| !link.contains("://")) {
            let Some((file, section)) = link.split_once('#') else { continue };
            let target = if file.is_empty() { root().join(&document) } else { beside.join(file) };
            if target.extension().is_none_or(|extension| extension != "md") || !target.exists() {
                continue;
            }
            let linked = fs::read_to_string(&target).unwrap();
            if !linked.lines().any(|line| line.starts_with('#') && anchor(line) == section) {
                missing.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(missing.is_empty(), "these sections do not exist:\n{}", missing.join("\n"));
}

#[test]
fn rows_of_the_im_cluster_name_existing_tests() {
    let tests: BTreeSet<String> = FILES.iter().flat_map(|(_, text)| test_functions(text)).collect();
    let text = read("docs/IM.md");
    let (_, rows) = text.split_once("## The rows").unwrap();
    let numbered = rows.lines().filter(|line| line.starts_with('|')).skip(2);
    for (number, row) in (1..).zip(numbered) {
        assert!(row.starts_with(&format!("| {number} |")), "{row}");
        assert!(row.split('`').any(is_test), "row {number} has no test");
    }
    let named: Vec<_> = rows.split('`').filter(|code| is_test(code)).collect();
    assert!(named.len() > 18);
    let missing: Vec<_> = named.into_iter().filter(|name| !tests.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/IM.md names tests that do not exist: {}", missing.join(", "));
}

/// Returns whether inline code has the form of a test name: lower case, with at least four words.
fn is_test(code: &str) -> bool {
    code.matches('_').count() >= 3 && code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[test]
fn readmes_have_the_same_sections_tables_and_code() {
    let (english, chinese) = (outline("README.md"), outline("README.zh-CN.md"));
    assert_eq!(english, chinese);
    assert!(english.iter().any(|line| line == "```rust"), "README.md has no example");
}

/// Returns the inline code of a document, without its code blocks.
pub(crate) fn inline_code(text: &str) -> Vec<String> {
    let mut is_block = false;
    let mut prose = String::new();
    for line in text.lines() {
        let is_fence = line.trim_start().starts_with("```");
        is_block ^= is_fence;
        if !is_block && !is_fence {
            prose += line;
        }
        prose.push('\n');
    }
    prose.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_constant(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// Returns the path at the start of code such as `Type::item`, `module::item(…)` or `module::macro!`.
fn item_path(code: &str) -> Option<Vec<&str>> {
    let end = code.find(['(', '!', '<']).unwrap_or(code.len());
    let names: Vec<_> = code[..end].split("::").collect();
    (names.len() > 1 && names.iter().all(|name| is_name(name))).then_some(names)
}

/// Paths in documents that no source file declares, because a macro generates them or another project defines them.
const FOREIGN_PATHS: [&str; 14] = [
    // The examples in the documents use these.
    "BTreeMap::from",
    "Bytes::from",
    "GreeterClient::local",
    "OrdersClient::local",
    "OrdersServer::new",
    "greeter_methods::Hello",
    // tarpc and tonic.
    "Channel::balance_list",
    "client::RpcError",
    "client::stub::load_balance",
    "Request::metadata",
    "Request::set_timeout",
    "Response::metadata_mut",
    "tower::Service",
    "webpki::Error",
];

/// Upper-case names in documents that are not constants: of the wire protocol, signals, socket options, environment
/// variables, HTTP methods and codes of gRPC.
const FOREIGN_NAMES: [&str; 33] = [
    "REQUEST",
    "RESPONSE",
    "PING",
    "PONG",
    "CANCEL",
    "GOAWAY",
    "ITEM",
    "END",
    "CREDIT",
    "CHALLENGE",
    "PROOF",
    "ROUTE",
    "TIMEOUT",
    "METADATA",
    "STATUS",
    "RETRY_AFTER",
    "REPEAT",
    "SKIPPED",
    "SIGTERM",
    "SIGKILL",
    "SIGINT",
    "TCP_NODELAY",
    "HOME",
    "XDG_CACHE_HOME",
    "RUST_LOG",
    "RUSTFLAGS",
    "GET",
    "POST",
    "PUT",
    "RNACOS_BIN",
    "REDIS_BIN",
    "FAILED_PRECONDITION",
    // The folder of the sources, in the book.
    "MSNB",
];

#[test]
fn symbols_in_documents_exist() {
    let symbols = Symbols::of_workspace();
    assert!(
        symbols.has_path(&["ServerConfig", "max_in_flight"]) && !symbols.has_path(&["ServerConfig", "no_such_field"])
    );
    let sources = || FILES.iter().filter(|(path, _)| !path.ends_with("documents.rs"));
    let is_variable =
        |name: &str| name.starts_with("MSNB_") && sources().any(|(_, text)| text.contains(&format!("\"{name}\"")));
    let mut missing = Vec::new();
    for document in documents() {
        for code in inline_code(&read(&document)) {
            let exists = if let Some((file, name)) = code.split_once(".rs::") {
                fs::read_to_string(root().join(format!("{file}.rs")))
                    .is_ok_and(|text| text.contains(&format!("fn {name}(")))
            } else if let Some(path) = item_path(&code) {
                symbols.has_path(&path) || FOREIGN_PATHS.contains(&path.join("::").as_str())
            } else if is_constant(&code) {
                symbols.has_constant(&code) || FOREIGN_NAMES.contains(&code.as_str()) || is_variable(&code)
            } else {
                true
            };
            if !exists {
                missing.push(format!("{document}: `{code}`"));
            }
        }
    }
    assert!(missing.is_empty(), "no source file declares these names:\n{}", missing.join("\n"));
}

#[test]
fn code_is_told_from_paths_and_constants() {
    let text = "a `B::c` d\n```rust\nE::f `G`\n```\n`H_I` and `j\nk`";
    assert_eq!(inline_code(text), ["B::c", "H_I", "j\nk"]);
    assert_eq!(item_path("a::B::c(D::e)"), Some(vec!["a", "B", "c"]));
    assert!(item_path("::1").is_none() && item_path("a").is_none() && item_path("a b::c").is_none());
    assert!(is_constant("MAX_1") && !is_constant("Max") && !is_constant("8") && !is_constant("A-B"));
}
