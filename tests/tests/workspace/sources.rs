//! The workspace on disk: its root directory, packages and Rust files, and the text of files without comments.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use serde::Deserialize;

/// The output of `cargo metadata`.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
}

#[derive(Deserialize)]
pub(crate) struct Package {
    id: String,
    /// The name of the package; for a library of the workspace, the name of its crate with `-`, which is that of its folder.
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) rust_version: Option<String>,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

#[derive(Deserialize)]
pub(crate) struct Dependency {
    /// The name by which the depending crate refers to it.
    pub(crate) name: String,
    rename: Option<String>,
    /// `dev`, `build`, or `None` for a normal dependency.
    pub(crate) kind: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Target {
    name: String,
    kind: Vec<String>,
    pub(crate) src_path: PathBuf,
}

impl Target {
    /// Returns whether this is the target with this kind and name.
    pub(crate) fn is(&self, kind: &str, name: &str) -> bool {
        self.name == name && self.kind.iter().any(|own| own == kind)
    }
}

impl Package {
    pub(crate) fn directory(&self) -> &Path {
        self.manifest_path.parent().unwrap()
    }

    /// Returns the target of the library or procedural macro.
    pub(crate) fn library(&self) -> Option<&Target> {
        self.targets.iter().find(|target| target.kind.iter().any(|kind| kind == "lib" || kind == "proc-macro"))
    }
}

pub(crate) static METADATA: LazyLock<Metadata> = LazyLock::new(|| {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--all-features", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
    for package in metadata.packages.iter_mut().filter(|package| metadata.workspace_members.contains(&package.id)) {
        if let Some(library) = package.library() {
            package.name = library.name.replace('_', "-");
        }
        for dependency in &mut package.dependencies {
            if let Some(name) = dependency.rename.take() {
                dependency.name = name;
            }
        }
    }
    metadata
});

/// Returns the packages of the workspace.
pub(crate) fn members() -> impl Iterator<Item = &'static Package> {
    METADATA.packages.iter().filter(|package| METADATA.workspace_members.contains(&package.id))
}

pub(crate) fn member(name: &str) -> &'static Package {
    members().find(|package| package.name == name).unwrap_or_else(|| panic!("the workspace has no package {name}"))
}

/// Returns the crates that users depend on: `msnb`, and those whose names start with `rpc-`.
pub(crate) fn libraries() -> impl Iterator<Item = &'static Package> {
    members().filter(|package| package.name == "msnb" || package.name.starts_with("rpc-"))
}

/// Returns the root directory of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Returns a path relative to the root directory, for messages.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Returns the text of a file, given its path relative to the root directory.
pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The languages of the book, the original first.
pub(crate) const LANGUAGES: [&str; 2] = ["en", "zh"];

/// Returns the directory with the chapters in a language.
pub(crate) fn chapters_in(language: &str) -> String {
    format!("book/{language}/src")
}

/// The Rust files of the workspace, with their texts.
pub(crate) static FILES: LazyLock<Vec<(PathBuf, String)>> = LazyLock::new(|| rust_files(root()));

/// Returns the Rust files below a directory, with their texts, in the order of their paths. It skips build output,
/// hidden directories, and the template, whose files have placeholders.
pub(crate) fn rust_files(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let mut found = Vec::new();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["target", "template"].contains(&name.as_str()) && !name.starts_with('.') {
            found.extend(rust_files(&path));
        } else if path.is_file() && name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

/// Replaces every comment and literal by spaces, which preserves lines and columns.
pub(crate) fn masked(text: &str) -> String {
    replaced(text, true)
}

/// Replaces every comment by spaces, which preserves lines and columns.
pub(crate) fn without_comments(text: &str) -> String {
    replaced(text, false)
}

fn replaced(text: &str, literals: bool) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = token_end(&chars, at);
        let is_replaced = end.is_some() && (literals || chars[at] == '/');
        let end = end.unwrap_or(at + 1);
        for &c in &chars[at..end] {
            out.push(if is_replaced && c != '\n' { ' ' } else { c });
        }
        at = end;
    }
    out
}

/// Returns the end of the comment or literal that starts at `at`, or `None` if neither does.
fn token_end(chars: &[char], at: usize) -> Option<usize> {
    let next = |n: usize| chars.get(at + n).copied();
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match (chars[at], next(1)) {
        ('/', Some('/')) => Some(position(chars, at, |c| c == '\n')),
        ('/', Some('*')) => Some(block_comment_end(chars, at)),
        ('"', _) => Some(string_end(chars, at + 1)),
        ('r', Some('"' | '#')) if !in_word => raw_string_end(chars, at + 1),
        ('b' | 'c', Some('r')) if !in_word => raw_string_end(chars, at + 2),
        ('\'', Some('\\')) => Some(position(chars, at + 3, |c| c == '\'') + 1),
        ('\'', Some(_)) if next(2) == Some('\'') => Some(at + 3),
        _ => None,
    }
}

fn position(chars: &[char], from: usize, is_end: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|&at| is_end(chars[at])).unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut at) = (1, at + 2);
    while depth > 0 && at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at.min(chars.len())
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// Returns the end of a raw string whose number signs start at `at`, or `None` for a raw identifier.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let signs = chars[at..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + signs) != Some(&'"') {
        return None;
    }
    let is_end = |quote: usize| {
        chars[quote] == '"' && chars[quote + 1..].iter().take(signs).filter(|c| **c == '#').count() == signs
    };
    let quote = (at + signs + 1..chars.len()).find(|&quote| is_end(quote))?;
    Some(quote + 1 + signs)
}

/// Returns the words of a [`masked`] text, which include all identifiers.
pub(crate) fn identifiers(masked: &str) -> impl Iterator<Item = &str> {
    masked.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[test]
fn masking_keeps_code_and_lines() {
    let text = "let a = \"x // y\"; // Me\n/* Me\n/* Me */ */ b('\\'', '\"', 'c') r#\"Me \"\"# r#type<'a> \"\\\"Me\"\n";
    let masked = masked(text);
    assert_eq!(masked.len(), text.len());
    assert_eq!(masked.lines().count(), text.lines().count());
    assert_eq!(identifiers(&masked).collect::<Vec<_>>(), ["let", "a", "b", "r", "type", "a"]);
    assert_eq!(without_comments("a(\"// b\") // c\n/* d */ e"), "a(\"// b\")     \n        e");
}
