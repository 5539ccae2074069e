//! The dependencies between crates and between modules, the sizes of files, and the version of Rust.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use proc_macro2::TokenTree;
use syn::Item;

use crate::{
    cycles::{self, Edges},
    modules::{self, Crate, Names},
    sources::{
        Dependency, FILES, METADATA, Package, Target, masked, member, members, read, root, rust_files, shown,
        without_comments,
    },
    tokens::{self, is_test_cfg},
};

fn is_normal(dependency: &&Dependency) -> bool {
    dependency.kind.is_none()
}

/// Returns the workspace crates that each crate depends on, without dev-dependencies and build dependencies.
fn edges() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let names: BTreeSet<_> = members().map(|package| package.name.as_str()).collect();
    let of = |package: &'static Package| {
        let dependencies = package.dependencies.iter().filter(is_normal).map(|dependency| dependency.name.as_str());
        (package.name.as_str(), dependencies.filter(|name| names.contains(name)).collect())
    };
    members().map(of).collect()
}

/// The workspace crates that each crate may depend on. Every crate must have an entry.
const ALLOWED: [(&str, &[&str]); 22] = [
    (
        "msnb",
        &[
            "rpc-macros",
            "rpc-core",
            "rpc-registry",
            "rpc-server",
            "rpc-client",
            "rpc-layers",
            "rpc-http",
            "rpc-grpc",
            "rpc-schema",
            "rpc-cli",
            "rpc-simulation",
        ],
    ),
    ("rpc-macros", &[]),
    ("rpc-core", &["rpc-macros"]),
    ("rpc-registry", &["rpc-core"]),
    ("rpc-server", &["rpc-core"]),
    ("rpc-client", &["rpc-core"]),
    ("rpc-grpc", &["rpc-core", "rpc-schema", "rpc-server"]),
    ("rpc-layers", &["rpc-core", "rpc-server", "rpc-client"]),
    ("rpc-http", &["rpc-core", "rpc-server"]),
    ("rpc-im", &["rpc-core", "rpc-registry", "rpc-server", "rpc-client", "rpc-cli"]),
    ("rpc-cli", &["rpc-core", "rpc-registry", "rpc-server", "rpc-client"]),
    ("msnb-cli", &["rpc-core", "rpc-registry", "rpc-client", "rpc-cli", "rpc-schema", "loadgen"]),
    ("loadgen", &[]),
    ("rpc-schema", &["rpc-core"]),
    ("rpc-simulation", &["rpc-core", "rpc-registry", "rpc-server", "rpc-client"]),
    ("contracts", &["msnb"]),
    ("examples", &["contracts", "msnb"]),
    ("certificates", &["msnb"]),
    ("quickstart", &["msnb"]),
    ("im", &["msnb", "rpc-im"]),
    ("bench", &["rpc-core", "rpc-registry", "rpc-server", "rpc-client", "rpc-grpc", "rpc-im", "loadgen"]),
    // Tests also check the examples.
    (
        "tests",
        &[
            "contracts",
            "examples",
            "msnb",
            "rpc-core",
            "rpc-registry",
            "rpc-server",
            "rpc-client",
            "rpc-layers",
            "rpc-cli",
            "rpc-http",
            "rpc-grpc",
            "rpc-im",
        ],
    ),
];

#[test]
fn crates_depend_downwards_only() {
    let allowed = BTreeMap::from(ALLOWED);
    for (name, dependencies) in edges() {
        let at_most = allowed.get(name).unwrap_or_else(|| panic!("{name} is missing in ALLOWED"));
        for dependency in dependencies {
            assert!(at_most.contains(&dependency), "{name} depends on {dependency}");
        }
    }
}

#[test]
fn client_and_server_do_not_depend_on_each_other() {
    for (one, other) in [("rpc-client", "rpc-server"), ("rpc-server", "rpc-client")] {
        let mut seen = BTreeSet::new();
        let mut next = vec![one];
        let edges = edges();
        while let Some(name) = next.pop() {
            assert_ne!(name, other, "{one} depends on {other}");
            next.extend(edges[name].iter().filter(|name| seen.insert(**name)));
        }
        // Tests that need both belong to the package `tests`.
        let package = members().find(|package| package.name == one).unwrap();
        assert!(
            package.dependencies.iter().all(|dependency| dependency.name != other),
            "{one} has the dev-dependency {other}"
        );
    }
}

#[test]
fn only_the_registry_uses_the_nacos_sdk() {
    let uses = |package: &&Package| package.dependencies.iter().any(|dependency| dependency.name == "nacos-sdk");
    assert_eq!(members().filter(uses).map(|package| package.name.as_str()).collect::<Vec<_>>(), ["rpc-registry"]);
    let elsewhere = members().filter(|package| !["rpc-registry", "tests"].contains(&package.name.as_str()));
    for (path, text) in elsewhere.flat_map(|package| rust_files(package.directory())) {
        // A log filter contains the name too, but without `::`.
        assert!(!text.contains("nacos_sdk::"), "{}", path.display());
    }
}

#[test]
fn generated_code_names_rpc_core_or_msnb_only() {
    let names: Vec<_> = members().map(|package| package.name.replace('-', "_")).collect();
    let macros = root().join("rpc-macros/src");
    let mut named = BTreeSet::new();
    for (path, text) in rust_files(&macros) {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            let crates =
                names.iter().filter(|name| line.contains(&format!("{name}::")) || line.contains(&format!("::{name}")));
            for name in crates {
                assert!(["msnb", "rpc_core"].contains(&name.as_str()), "{}: {line}", path.display());
                named.insert(name);
            }
        }
    }
    assert_eq!(
        named.len(),
        2,
        "rpc-macros does not contain the names msnb and rpc_core, so this test searches for the wrong text"
    );
}

/// Parses a version of Rust; 1.91 is 1.91.0.
fn version(text: &str) -> [u64; 3] {
    let mut parts = text.split('.').map(|part| part.parse().unwrap());
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

/// Returns the version of Rust that the workspace requires.
fn workspace_rust() -> String {
    let manifest = read("Cargo.toml");
    let stated: Vec<_> = manifest.lines().filter_map(|line| line.strip_prefix("rust-version = ")).collect();
    let [stated] = stated[..] else { panic!("Cargo.toml has {} lines with rust-version, expected 1", stated.len()) };
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
            format!("{} {} requires {}", package.name, package.version, package.rust_version.as_deref().unwrap())
        })
        .collect();
    assert!(newer.is_empty(), "the workspace supports Rust {ours}, these dependencies require a newer one: {newer:?}");
}

#[test]
fn crates_inherit_the_rust_version() {
    let ours = workspace_rust();
    for package in members() {
        assert_eq!(package.rust_version.as_deref(), Some(ours.as_str()), "{}", package.name);
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        assert!(manifest.contains("rust-version.workspace = true"), "{}", package.manifest_path.display());
    }
}

#[test]
fn crates_inherit_lints_edition_and_license() {
    for package in members() {
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        for line in ["[lints]\nworkspace = true", "edition.workspace = true", "license.workspace = true"] {
            assert!(manifest.contains(line), "{} has no `{line}`", package.manifest_path.display());
        }
    }
}

/// Returns a target's modules, and the dependencies between its files.
fn graph(target: &Target) -> (Crate, Edges) {
    let source = Crate::load(&target.src_path, &|path| fs::read_to_string(path).ok());
    let edges = cycles::edges(&source);
    (source, edges)
}

#[test]
fn modules_do_not_depend_on_each_other_in_cycles() {
    let mut found = Vec::new();
    for target in members().flat_map(|package| &package.targets) {
        let (name, (_, edges)) = (shown(&target.src_path), graph(target));
        for circle in cycles::cycles(&edges) {
            let modules: Vec<_> = circle.iter().map(|module| cycles::shown(module)).collect();
            found.push(format!("{name}: {} modules in a cycle: {}", circle.len(), modules.join(", ")));
            found.extend(cycles::describe(&circle, &edges).into_iter().map(|line| format!("    {line}")));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The top folders of each crate, from the lowest layer to the highest.
///
/// A folder uses only folders of its own layer and of lower ones. Each top folder of a listed crate must have a layer; a
/// file beside the folders may have one.
const LAYERS: &[(&str, &[&[&str]])] = &[
    (
        "rpc-client",
        &[
            &["connection"],
            &["endpoint"],
            &["discovery"],
            &["rules"],
            &["client_core"],
            &["call"],
            &["client"],
            &["builder"],
        ],
    ),
    ("rpc-core", &[&["contract"], &["wire"], &["transport"], &["security"]]),
    ("rpc-layers", &[&["metrics", "trace"], &["monitor_port"]]),
    ("rpc-macros", &[&["options"], &["expand"]]),
    ("rpc-registry", &[&["directory", "local", "nacos"]]),
    ("rpc-server", &[&["call"], &["connection"], &["endpoint"], &["listener"], &["lifecycle"]]),
];

/// Returns the dependencies of lower layers on higher ones, the top folders without a layer, and the entries without a
/// module.
fn violations(name: &str, source: &Crate, edges: &Edges, layers: &[&[&str]]) -> Vec<String> {
    let layer = |module: &Names| {
        let top = module.first()?.as_str();
        layers.iter().position(|layer| layer.contains(&top))
    };
    let tops =
        |min: usize| source.modules.iter().filter(move |(path, module)| path.len() >= min && module.unit == **path);
    let names = |min: usize| tops(min).map(|(path, _)| path[0].as_str()).collect::<BTreeSet<_>>();
    let named: BTreeSet<&str> = layers.iter().copied().flatten().copied().collect();
    let mut found = Vec::new();
    found.extend(names(2).difference(&named).map(|module| format!("{name}: the folder `{module}` has no layer")));
    found.extend(named.difference(&names(1)).map(|module| format!("{name}: there is no module `{module}`")));
    for (from, used) in edges {
        for (to, by) in used {
            if let (Some(low), Some(high)) = (layer(from), layer(to))
                && low < high
            {
                found.push(format!("{name}: {} uses {} by `{by}`", cycles::shown(from), cycles::shown(to)));
            }
        }
    }
    found
}

#[test]
fn modules_use_lower_layers_only() {
    let mut found = Vec::new();
    for (name, layers) in LAYERS {
        let library = member(name).library().unwrap();
        let (source, edges) = graph(library);
        found.extend(violations(name, &source, &edges, layers));
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn layer_check_finds_violations() {
    let files = [
        ("lib.rs", "mod low; mod high; mod new; mod file;"),
        ("low/mod.rs", "mod a; use crate::high::High;"),
        ("low/a.rs", ""),
        ("high/mod.rs", "mod a; pub struct High; use crate::new::New;"),
        ("high/a.rs", ""),
        ("new.rs", "mod a; pub struct New;"),
        ("new/a.rs", "use crate::file::File;"),
        ("file.rs", "pub struct File; use crate::low::a;"),
    ];
    let read = |path: &Path| files.iter().find(|file| Path::new(file.0) == path).map(|file| file.1.to_owned());
    let source = Crate::load(Path::new("lib.rs"), &read);
    let edges = cycles::edges(&source);
    let found = |layers: &[&[&str]]| violations("a", &source, &edges, layers);
    assert_eq!(found(&[&["new"], &["low", "high"]]), [""; 0]);
    assert_eq!(found(&[&["new"], &["high"], &["low"]]), [""; 0]);
    assert_eq!(found(&[&["new"], &["low"], &["high"]]), ["a: low uses high by `crate::high::High`"]);
    assert_eq!(found(&[&["new"], &["low", "high"], &["file"]]), ["a: new::a uses file by `crate::file::File`"]);
    assert_eq!(found(&[&["low", "high", "old"]]), ["a: the folder `new` has no layer", "a: there is no module `old`"]);
}

/// Returns the number of lines of code in a file, without blank lines, comments and test modules.
fn code_lines(text: &str) -> usize {
    let (code, masked) = (without_comments(text), masked(text));
    let code: Vec<_> = code.lines().collect();
    let masked: Vec<_> = masked.lines().collect();
    let mut count = 0;
    let mut at = 0;
    while at < code.len() {
        let of_tests = test_module_len(&masked[at..]);
        count += usize::from(of_tests.is_none() && !code[at].trim().is_empty());
        at += of_tests.unwrap_or(1);
    }
    count
}

/// Returns the number of lines of the inline test module that starts at these lines, or `None` if none does.
fn test_module_len(lines: &[&str]) -> Option<usize> {
    let is_attribute = |code: &str| code.trim_start().starts_with("#[") && code.trim_end().ends_with(']');
    let attributes: Vec<&str> = lines.iter().copied().take_while(|code| is_attribute(code)).collect();
    let is_test = |code: &&str| {
        let tokens = code.trim().trim_start_matches("#[").trim_end_matches(']');
        syn::parse_str(tokens).is_ok_and(|meta| is_test_cfg(&meta))
    };
    let first = lines.get(attributes.len())?;
    let is_module = first.split_whitespace().take(2).any(|word| word == "mod") && first.contains('{');
    if !is_module || !attributes.iter().any(is_test) {
        return None;
    }
    let mut depth = 0;
    for (len, code) in (1..).zip(lines).skip(attributes.len()) {
        depth += code.matches('{').count();
        depth -= code.matches('}').count();
        if depth == 0 {
            return Some(len);
        }
    }
    Some(lines.len())
}

#[test]
fn code_lines_leave_out_blanks_comments_and_tests() {
    let text = "//! A\n\nuse b; // B\n    /// C\nfn c() {\n    \"\n  // text\n\";\n}\n\n#[cfg(all(test, shuttle))]\n#[allow(x)]\n\
                mod tests {\n    fn d() {}\n}\n#[cfg(unix)]\nmod e {\n}\n";
    assert_eq!(code_lines(text), 9);
}

const MAX_CODE_LINES: usize = 400;

#[test]
fn files_have_at_most_400_lines_of_code() {
    let sizes = FILES.iter().map(|(path, text)| (code_lines(text), path));
    let long: Vec<_> = sizes.filter(|(lines, _)| *lines > MAX_CODE_LINES).collect();
    let long: Vec<_> = long.iter().map(|(lines, path)| format!("{}: {lines} lines of code", shown(path))).collect();
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}

/// Returns whether a `lib.rs` may contain an item. Rust requires the entry points of procedural macros there.
fn belongs_in_lib(item: &Item) -> bool {
    match item {
        Item::Mod(module) => module.content.is_none(),
        Item::Use(_) | Item::ExternCrate(_) | Item::Type(_) => true,
        Item::Fn(function) => function.attrs.iter().any(|attribute| {
            attribute.path().get_ident().is_some_and(|name| name.to_string().starts_with("proc_macro"))
        }),
        _ => false,
    }
}

#[test]
fn lib_files_hold_modules_and_reexports_only() {
    let mut found = Vec::new();
    for (path, text) in FILES.iter().filter(|(path, _)| path.ends_with("lib.rs")) {
        for item in tokens::parse(text, &shown(path)).items.iter().filter(|item| !belongs_in_lib(item)) {
            let name = modules::item_name(item).unwrap_or_else(|| first_tokens(item));
            found.push(format!("{}: {name}", shown(path)));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

fn first_tokens(item: &Item) -> String {
    let tokens = quote::ToTokens::to_token_stream(item).into_iter();
    let words = tokens.filter(|token| !matches!(token, TokenTree::Punct(sign) if sign.as_char() == '#'));
    words.take(2).map(|token| token.to_string()).collect::<Vec<_>>().join(" ")
}
