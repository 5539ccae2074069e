//! Who may depend on whom, and on which Rust.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use serde::Deserialize;

/// What `cargo metadata` says.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    rust_version: Option<String>,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None`, `dev` or `build`.
    kind: Option<String>,
}

static METADATA: LazyLock<Metadata> = LazyLock::new(|| {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--all-features", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
});

fn members() -> impl Iterator<Item = &'static Package> {
    METADATA.packages.iter().filter(|package| METADATA.workspace_members.contains(&package.id))
}

fn is_normal(dependency: &&Dependency) -> bool {
    dependency.kind.is_none()
}

/// The crates of this workspace that each of them depends on, tests aside.
fn edges() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let names: BTreeSet<_> = members().map(|package| package.name.as_str()).collect();
    let of = |package: &'static Package| {
        let dependencies = package.dependencies.iter().filter(is_normal).map(|dependency| dependency.name.as_str());
        (package.name.as_str(), dependencies.filter(|name| names.contains(name)).collect())
    };
    members().map(of).collect()
}

/// What each crate of the workspace may depend on at most. What is not named here is a new crate: say here where it stands.
const ALLOWED: [(&str, &[&str]); 10] = [
    ("rpc-macros", &[]),
    ("rpc-core", &["rpc-macros"]),
    ("rpc-registry", &["rpc-core"]),
    ("rpc-server", &["rpc-core"]),
    ("rpc-client", &["rpc-core"]),
    ("rpc-layers", &["rpc-core", "rpc-server", "rpc-client"]),
    ("rpc-im", &["rpc-core", "rpc-registry", "rpc-server", "rpc-client", "rpc-layers"]),
    ("examples", &["rpc-core", "rpc-registry", "rpc-server", "rpc-client", "rpc-layers", "rpc-im"]),
    ("bench", &["rpc-core", "rpc-registry", "rpc-server", "rpc-client", "rpc-im"]),
    // Tests also hold the examples to their contracts.
    ("tests", &["rpc-core", "rpc-registry", "rpc-server", "rpc-client", "rpc-layers", "rpc-im", "examples"]),
];

#[test]
fn crates_depend_downwards_only() {
    let allowed = BTreeMap::from(ALLOWED);
    for (name, dependencies) in edges() {
        let at_most = allowed.get(name).unwrap_or_else(|| panic!("{name} has no place in the architecture"));
        for dependency in dependencies {
            assert!(at_most.contains(&dependency), "{name} depends on {dependency}");
        }
    }
}

#[test]
fn client_and_server_never_see_each_other() {
    for (one, other) in [("rpc-client", "rpc-server"), ("rpc-server", "rpc-client")] {
        let mut seen = BTreeSet::new();
        let mut next = vec![one];
        let edges = edges();
        while let Some(name) = next.pop() {
            assert_ne!(name, other, "{one} depends on {other}");
            next.extend(edges[name].iter().filter(|name| seen.insert(**name)));
        }
        // Nor in their tests: what needs both is the place of the package `tests`.
        let package = members().find(|package| package.name == one).unwrap();
        assert!(package.dependencies.iter().all(|dependency| dependency.name != other), "{one} tests with {other}");
    }
}

#[test]
fn only_the_registry_knows_the_nacos_sdk() {
    let knows = |package: &&Package| package.dependencies.iter().any(|dependency| dependency.name == "nacos-sdk");
    assert_eq!(members().filter(knows).map(|package| package.name.as_str()).collect::<Vec<_>>(), ["rpc-registry"]);
    let elsewhere = members().filter(|package| !["rpc-registry", "tests"].contains(&package.name.as_str()));
    for (path, text) in elsewhere.flat_map(|package| sources(package.manifest_path.parent().unwrap())) {
        // A log filter names it too; a path does not end with a quotation mark or an equals sign.
        assert!(!text.contains("nacos_sdk::"), "{}", path.display());
    }
}

#[test]
fn generated_code_names_rpc_core_only() {
    let names: Vec<_> = members().map(|package| package.name.replace('-', "_")).collect();
    let macros = METADATA.workspace_root.join("rpc-macros/src");
    let mut named = BTreeSet::new();
    for (path, text) in sources(&macros) {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            let crates =
                names.iter().filter(|name| line.contains(&format!("{name}::")) || line.contains(&format!("::{name}")));
            for name in crates {
                assert_eq!(name, "rpc_core", "{}: {line}", path.display());
                named.insert(name);
            }
        }
    }
    assert_eq!(
        named.len(),
        1,
        "the macro's own name for rpc-core is found here, or this test looks for the wrong thing"
    );
}

/// The Rust sources under a directory.
fn sources(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

/// A version of Rust as numbers: 1.91, which is 1.91.0.
fn version(text: &str) -> [u64; 3] {
    let mut parts = text.split('.').map(|part| part.parse().unwrap());
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

/// The Rust that the workspace asks for.
fn workspace_rust() -> String {
    let manifest = fs::read_to_string(METADATA.workspace_root.join("Cargo.toml")).unwrap();
    let stated: Vec<_> = manifest.lines().filter_map(|line| line.strip_prefix("rust-version = ")).collect();
    let [stated] = stated[..] else { panic!("the workspace states its rust-version {} times", stated.len()) };
    stated.trim_matches('"').to_owned()
}

#[test]
fn no_dependency_needs_a_newer_rust() {
    let ours = workspace_rust();
    let newer: Vec<_> = METADATA
        .packages
        .iter()
        .filter(|package| package.rust_version.as_deref().is_some_and(|theirs| version(theirs) > version(&ours)))
        .map(|package| {
            format!("{} {} needs {}", package.name, package.version, package.rust_version.as_deref().unwrap())
        })
        .collect();
    assert!(newer.is_empty(), "the workspace promises {ours}, but {newer:?}");
}

#[test]
fn the_rust_version_is_stated_once_and_inherited_by_all() {
    let ours = workspace_rust();
    for package in members() {
        assert_eq!(package.rust_version.as_deref(), Some(ours.as_str()), "{}", package.name);
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        assert!(manifest.contains("rust-version.workspace = true"), "{}", package.manifest_path.display());
    }
}

#[test]
fn every_crate_keeps_the_workspaces_lints_and_edition() {
    for package in members() {
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        for line in ["[lints]\nworkspace = true", "edition.workspace = true", "license.workspace = true"] {
            assert!(manifest.contains(line), "{} has no `{line}`", package.manifest_path.display());
        }
    }
}
