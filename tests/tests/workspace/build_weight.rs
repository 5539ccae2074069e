//! The crates that contracts and the quickstart compile, and the patch of planted bugs.

use std::{collections::BTreeSet, process::Command};

use crate::sources::root;

/// Returns the names of the crates that `cargo tree` lists, including build dependencies.
fn tree(arguments: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--prefix", "none", "--edges", "normal,build"])
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// A contract crate has one more crate, itself.
#[test]
fn contract_crate_compiles_at_most_25_crates() {
    let crates = tree(&["--package", "msnb", "--no-default-features"]);
    assert!(crates.contains("msnb-core") && crates.contains("serde_json"), "{crates:?}");
    assert!(crates.len() <= 24, "{} crates: {crates:?}", crates.len());
}

#[test]
fn provider_with_nacos_and_tls_compiles_at_most_175_crates() {
    let crates = tree(&["--package", "msnb", "--features", "nacos,tls"]);
    assert!(crates.contains("nacos-sdk") && crates.contains("rustls"), "{crates:?}");
    assert!(crates.len() <= 175, "{} crates: {crates:?}", crates.len());
}

/// Lists the default members: `cargo run --bin quickstart` unifies the features of all of them.
#[test]
fn quickstart_compiles_no_heavy_dependency() {
    let crates = tree(&[]);
    assert!(crates.contains("quickstart") && crates.contains("msnb-client"), "{crates:?}");
    for heavy in ["argon2", "nacos-sdk", "redis", "redb", "msnb-im", "rustls", "tokio-tungstenite", "url", "zstd"] {
        assert!(!crates.contains(heavy), "the default members compile {heavy}");
    }
}

#[test]
fn planted_bugs_patch_applies() {
    let git = |arguments: &[&str]| Command::new("git").args(arguments).current_dir(root()).output();
    match git(&["rev-parse", "--is-inside-work-tree"]) {
        Ok(output) if output.status.success() => {}
        _ => return println!("SKIPPED: needs git and a repository"),
    }
    let output = git(&["apply", "--check", "tests/planted-bugs.patch"]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
