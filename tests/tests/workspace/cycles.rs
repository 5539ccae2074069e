//! The dependencies between the modules of a crate, and the cycles among them.
//!
//! Each file is one module, including its inline modules. A file depends on another one if it contains a path to an item
//! of the other file, also through re-exports. A `pub use` of an item in a child module is not a dependency, because it
//! only defines a public path; a use of that path in the same file is one. Test code is ignored.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Item, ItemUse};

use crate::modules::{Crate, Found, Import, Names, imports};

/// The modules that each module uses, each with an example of a path that refers to it.
pub(crate) type Edges = BTreeMap<Names, BTreeMap<Names, String>>;

/// Returns the dependencies between the files of a crate.
pub(crate) fn edges(source: &Crate) -> Edges {
    let mut edges: Edges = BTreeMap::new();
    for (path, module) in &source.modules {
        let mut scan = Scan { source, at: path, unit: &module.unit, local: Vec::new(), used: BTreeMap::new() };
        for item in &module.items {
            match item {
                Item::Mod(_) => {}
                Item::Use(item) => imports(item).iter().for_each(|import| scan.import(import)),
                other => scan.tokens(other.to_token_stream()),
            }
        }
        let used = scan.used;
        edges.entry(module.unit.clone()).or_default().extend(used);
    }
    edges
}

struct Scan<'a> {
    source: &'a Crate,
    at: &'a [String],
    unit: &'a Names,
    /// The imports of the enclosing functions.
    local: Vec<Import>,
    used: BTreeMap<Names, String>,
}

impl Scan<'_> {
    fn import(&mut self, import: &Import) {
        let Some(found) = self.source.resolve(self.at, &import.path) else { return };
        let is_below = |found: &Found| found.module.len() > self.at.len() && found.module.starts_with(self.at);
        let names_a_child = self.first_module(&import.path).is_some_and(|module| is_below(&module));
        if import.is_reexport && (names_a_child || is_below(&found)) {
            return;
        }
        // An imported module is not a dependency by itself: the paths that start with its name are.
        if found.item.is_some() || import.name == "*" {
            self.add(found, &import.path);
        }
    }

    fn first_module(&self, path: &[String]) -> Option<Found> {
        let len = path.iter().take_while(|name| *name == "self" || *name == "crate" || *name == "super").count() + 1;
        self.source.resolve(self.at, path.get(..len)?)
    }

    fn add(&mut self, found: Found, path: &[String]) {
        let Some(module) = self.source.modules.get(&found.module) else { return };
        if module.unit != *self.unit {
            self.used.entry(module.unit.clone()).or_insert_with(|| path.join("::"));
        }
    }

    fn tokens(&mut self, tokens: TokenStream) {
        let trees: Vec<_> = tokens.into_iter().collect();
        let imported = self.local.len();
        let mut at = 0;
        while at < trees.len() {
            at += self.token(&trees, at);
        }
        self.local.truncate(imported);
    }

    /// Scans one token, path or `use`, and returns its number of token trees.
    fn token(&mut self, trees: &[TokenTree], at: usize) -> usize {
        match &trees[at] {
            TokenTree::Group(group) => {
                self.tokens(group.stream());
                1
            }
            TokenTree::Ident(ident) if ident == "pub" => 1 + usize::from(is_parenthesised(trees.get(at + 1))),
            TokenTree::Ident(ident) if ident == "use" && !is_punct(trees.get(at + 1), '<') => {
                let len = trees[at..].iter().take_while(|tree| !is_punct(Some(tree), ';')).count() + 1;
                let item: TokenStream = trees[at..trees.len().min(at + len)].iter().cloned().collect();
                if let Ok(item) = syn::parse2::<ItemUse>(item) {
                    let found = imports(&item);
                    found.iter().for_each(|import| self.import(import));
                    self.local.extend(found);
                }
                len
            }
            TokenTree::Ident(_) => self.path(trees, at),
            _ => 1,
        }
    }

    fn path(&mut self, trees: &[TokenTree], at: usize) -> usize {
        let mut path = vec![ident(&trees[at]).unwrap()];
        let mut len = 1;
        while is_punct(trees.get(at + len), ':') && is_punct(trees.get(at + len + 1), ':') {
            let Some(next) = trees.get(at + len + 2).and_then(ident) else { break };
            path.push(next);
            len += 3;
        }
        let follows = trees.get(at + len);
        if is_punct(follows, '!') && path.last().is_some_and(|name| GENERATING.contains(&name.as_str())) {
            // The input is code of another crate.
            return len + 2;
        }
        // A field, a method, a lifetime, or the end of a path that starts with a type.
        let continues = at.checked_sub(1).and_then(|before| trees.get(before)).is_some_and(|before| {
            is_punct(Some(before), '.') && !is_range(trees, at) || is_punct(Some(before), '\'') || is_colons(trees, at)
        });
        let is_item = path.len() > 1
            || path[0].starts_with(char::is_uppercase)
            || is_parenthesised(follows)
            || is_punct(follows, '!');
        if !continues && is_item && path[0] != "Self" {
            self.resolve(&path);
        }
        len
    }

    fn resolve(&mut self, path: &[String]) {
        let local = self.local.iter().rev().find(|import| import.name == path[0]);
        let full = match local {
            Some(import) => import.path.iter().chain(&path[1..]).cloned().collect(),
            None => path.to_vec(),
        };
        if let Some(found) = self.source.resolve(self.at, &full)
            && found.item.is_some()
        {
            self.add(found, path);
        }
    }
}

/// Macros whose input is the code of another crate.
const GENERATING: [&str; 3] = ["quote", "quote_spanned", "parse_quote"];

fn ident(tree: &TokenTree) -> Option<String> {
    match tree {
        TokenTree::Ident(ident) => Some(ident.to_string().trim_start_matches("r#").to_owned()),
        _ => None,
    }
}

fn is_punct(tree: Option<&TokenTree>, sign: char) -> bool {
    matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

fn is_parenthesised(tree: Option<&TokenTree>) -> bool {
    matches!(tree, Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis)
}

fn is_range(trees: &[TokenTree], at: usize) -> bool {
    at >= 2 && is_punct(trees.get(at - 2), '.')
}

fn is_colons(trees: &[TokenTree], at: usize) -> bool {
    at >= 2 && is_punct(trees.get(at - 1), ':') && is_punct(trees.get(at - 2), ':')
}

/// Returns the cycles: sets of modules that depend on each other, directly or indirectly.
pub(crate) fn cycles(edges: &Edges) -> Vec<BTreeSet<Names>> {
    let reached: BTreeMap<&Names, BTreeSet<&Names>> = edges.keys().map(|from| (from, reachable(edges, from))).collect();
    let mut found: Vec<BTreeSet<Names>> = Vec::new();
    for (from, to) in &reached {
        if to.contains(from) && !found.iter().any(|circle| circle.contains(*from)) {
            let back = to.iter().filter(|other| reached[**other].contains(from));
            found.push(back.map(|name| (*name).clone()).collect());
        }
    }
    found
}

fn reachable<'a>(edges: &'a Edges, from: &Names) -> BTreeSet<&'a Names> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<_> = edges[from].keys().collect();
    while let Some(name) = next.pop() {
        if reached.insert(name) {
            next.extend(edges.get(name).into_iter().flat_map(BTreeMap::keys));
        }
    }
    reached
}

/// Returns one line for each dependency inside a cycle.
pub(crate) fn describe(circle: &BTreeSet<Names>, edges: &Edges) -> Vec<String> {
    let inside = circle.iter().flat_map(|from| edges[from].iter().map(move |(to, by)| (from, to, by)));
    let inside = inside.filter(|(_, to, _)| circle.contains(*to));
    inside.map(|(from, to, by)| format!("{} uses {} by `{by}`", shown(from), shown(to))).collect()
}

pub(crate) fn shown(module: &[String]) -> String {
    if module.is_empty() { "the crate's root".to_owned() } else { module.join("::") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Returns the dependencies of a crate with these files, as `from > to`.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let read = |path: &Path| files.iter().find(|file| Path::new(file.0) == path).map(|file| file.1.to_owned());
        let edges = edges(&Crate::load(Path::new(files[0].0), &read));
        let lines = edges.iter().flat_map(|(from, to)| to.keys().map(move |to| (from, to)));
        lines.map(|(from, to)| format!("{} > {}", from.join("::"), to.join("::"))).collect()
    }

    fn circles(files: &[(&str, &str)]) -> Vec<BTreeSet<Names>> {
        let read = |path: &Path| files.iter().find(|file| Path::new(file.0) == path).map(|file| file.1.to_owned());
        cycles(&edges(&Crate::load(Path::new(files[0].0), &read)))
    }

    #[test]
    fn reexports_lead_to_the_defining_file() {
        let files = [
            ("lib.rs", "mod a; mod b; pub use a::Deep;"),
            ("a/mod.rs", "mod deep; pub(crate) use deep::{Deep, Other as Renamed};"),
            ("a/deep.rs", "pub struct Deep; pub struct Other;"),
            ("b.rs", "use crate::{Deep, a::Renamed};"),
        ];
        assert_eq!(found(&files), ["b > a::deep"]);
    }

    #[test]
    fn own_use_of_a_reexport_is_a_dependency() {
        let root = ("lib.rs", "mod a;");
        let child = ("a/b.rs", "pub struct B;");
        assert_eq!(found(&[root, ("a/mod.rs", "mod b; pub use b::B;"), child]), [""; 0]);
        assert_eq!(found(&[root, ("a/mod.rs", "mod b; pub use b::B; fn f() -> B { B }"), child]), ["a > a::b"]);
    }

    #[test]
    fn child_and_parent_make_a_cycle() {
        let files = [
            ("lib.rs", "mod a;"),
            ("a.rs", "mod b; use b::B; pub struct A;"),
            ("a/b.rs", "pub struct B; impl B { fn a() -> super::A { super::A } }"),
        ];
        assert_eq!(found(&files), ["a > a::b", "a::b > a"]);
        assert_eq!(circles(&files).len(), 1);
    }

    #[test]
    fn siblings_through_the_parent_are_no_cycle() {
        let files = [
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "mod b; mod c; pub use b::B; pub use c::C;"),
            ("a/b.rs", "use super::C; pub struct B(C);"),
            ("a/c.rs", "pub struct C;"),
        ];
        assert_eq!(found(&files), ["a::b > a::c"]);
        assert!(circles(&files).is_empty());
    }

    #[test]
    fn long_cycles_are_found_once() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "fn a() { crate::b::b() }"),
            ("b.rs", "pub fn b() { use super::c; c::c() }"),
            ("c.rs", "pub fn c() { crate::d!(crate::a::a) }"),
            ("d.rs", "use crate::a::a;"),
        ];
        let names = |names: [&str; 3]| names.map(|name| vec![name.to_owned()]).into();
        assert_eq!(circles(&files), [names(["a", "b", "c"])]);
    }

    #[test]
    fn imported_modules_count_by_the_used_part() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "mod c; pub use c::C; pub struct A;"),
            ("a/c.rs", "pub struct C; impl C { const N: u8 = 1; }"),
            ("b.rs", "use crate::a; fn b() -> u8 { a::C::N }"),
        ];
        assert_eq!(found(&files), ["b > a::c"]);
    }

    #[test]
    fn test_code_and_inline_modules_of_one_file_count_not() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "pub struct A; mod inner { use super::A; } #[cfg(test)] mod tests { use crate::b::B; }"),
            ("b.rs", "use crate::a::A; pub struct B; #[cfg(all(test, shuttle))] use crate::a::inner;"),
        ];
        assert_eq!(found(&files), ["b > a"]);
    }

    #[test]
    fn globs_macros_and_generated_code_are_followed() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c; pub use b::*;"),
            ("a.rs", "use crate::{B, made}; fn f() { made!(); quote! { crate::c::C } }"),
            ("b.rs", "pub struct B;"),
            ("c.rs", "pub struct C; #[macro_export] macro_rules! made { () => { $crate::b::B } }"),
        ];
        assert_eq!(found(&files), ["a > b", "a > c", "c > b"]);
    }

    #[test]
    fn fields_methods_and_locals_are_no_paths() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "mod c; pub use c::connect; fn f(c: X) { c.connect(); let connect = 1; g(connect); }"),
            ("a/c.rs", "pub fn connect() {}"),
            ("b.rs", "pub(in crate::a) struct B; fn f<'a>() { other::a::A; }"),
        ];
        assert_eq!(found(&files), [""; 0]);
    }

    #[test]
    fn a_function_may_share_its_modules_name() {
        let files = [
            ("lib.rs", "mod connect; mod other; pub use connect::connect;"),
            ("connect.rs", "pub fn connect() {} pub struct C;"),
            ("other.rs", "use crate::connect; fn f() { connect(); }"),
        ];
        assert_eq!(found(&files), ["other > connect"]);
        let module = ("other.rs", "use crate::connect::{self, C}; fn f() { connect::connect(); }");
        assert_eq!(found(&[files[0], files[1], module]), ["other > connect"]);
    }
}
