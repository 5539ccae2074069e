//! The files in `docs/public-api/` list every exported item of each library.
//!
//! `MSNB_UPDATE=1 cargo test -p tests --test workspace public_api` regenerates the files from the sources. The lists
//! exclude `#[doc(hidden)]` items, and contain an item under each of its public paths through `pub mod` and `pub use`.

use std::{collections::BTreeMap, env, fs};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Fields, FnArg, ImplItem, Item, ItemImpl, Pat, Signature, TraitItem, Type, ext::IdentExt};

use crate::{
    modules::{Crate, Found, Import, Names, conditions, is_hidden, is_visible, item_name, joined},
    sources::{libraries, root},
    tokens::render,
};

/// The exported items: the lines of the members of each, by the item's path and line.
type Blocks = BTreeMap<(String, String), Vec<String>>;

struct Listing<'a> {
    source: &'a Crate,
    /// The `impl` blocks of the crate, by their module and the name of their type.
    impls: BTreeMap<(Names, String), Vec<&'a ItemImpl>>,
    blocks: Blocks,
}

/// Returns the lines for a crate with the root path `name`.
fn list(source: &Crate, name: &str) -> Vec<String> {
    let mut impls: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (path, module) in &source.modules {
        for item in &module.items {
            if let Item::Impl(block) = item
                && let Type::Path(of) = &*block.self_ty
                && let Some(Found { module, item: Some(item) }) = source.resolve(path, &names(&of.path))
            {
                impls.entry((module, item)).or_default().push(block);
            }
        }
    }
    let mut listing = Listing { source, impls, blocks: Blocks::new() };
    listing.module(name, &[], &[]);
    for (path, module) in &source.modules {
        for item in &module.items {
            if let Item::Macro(rules) = item
                && rules.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export"))
                && !is_hidden(&rules.attrs)
            {
                let name = format!("{name}::{}!", rules.ident.as_ref().unwrap());
                listing.push(&name, format!("macro {name}"), &source.modules[path].conditions, Vec::new());
            }
        }
    }
    listing.blocks.into_iter().flat_map(|((_, first), rest)| [vec![first], rest].concat()).collect()
}

impl Listing<'_> {
    fn push(&mut self, path: &str, line: String, conditions: &[String], parts: Vec<String>) {
        let suffix = suffix(conditions);
        let parts = parts.into_iter().map(|part| format!("    {part}{suffix}"));
        self.blocks.insert((path.to_owned(), format!("{line}{suffix}")), parts.collect());
    }

    /// Lists the exports of a module under the public path `path`.
    fn module(&mut self, path: &str, at: &[String], outer: &[String]) {
        let module = &self.source.modules[at];
        for item in &module.items {
            match item {
                Item::Mod(child) => {
                    let child = joined(at, &child.ident.unraw().to_string());
                    let Some(known) = self.source.modules.get(&child).filter(|known| known.is_public) else { continue };
                    let conditions = [outer, &known.conditions].concat();
                    self.child(&format!("{path}::{}", child.last().unwrap()), &child, &conditions);
                }
                Item::Use(_) => {}
                other => self.item(path, at, other, None, outer),
            }
        }
        for import in module.imports.iter().filter(|import| import.is_public) {
            self.reexport(path, at, import, &[outer, &import.conditions].concat());
        }
    }

    fn child(&mut self, path: &str, at: &[String], conditions: &[String]) {
        self.push(path, format!("mod {path}"), conditions, Vec::new());
        self.module(path, at, conditions);
    }

    fn reexport(&mut self, path: &str, at: &[String], import: &Import, conditions: &[String]) {
        let name = format!("{path}::{}", import.name);
        match self.source.resolve(at, &import.path) {
            Some(Found { module, item: None }) if import.name == "*" => self.module(path, &module, conditions),
            Some(Found { module, item: None }) => self.child(&name, &module, conditions),
            Some(Found { module, item: Some(item) }) => {
                let items = &self.source.modules[&module].items;
                for found in items.iter().filter(|found| item_name(found).as_ref() == Some(&item)) {
                    self.item(path, &module, found, Some(&import.name), conditions);
                }
            }
            None => self.push(&name, format!("use {name} = {}", import.path.join("::")), conditions, Vec::new()),
        }
    }

    /// Lists an item of the module `at` under the public path `path`, as `renamed` if a re-export renames it.
    fn item(&mut self, path: &str, at: &[String], item: &Item, renamed: Option<&str>, outer: &[String]) {
        let (Some(name), Some((attributes, true))) = (item_name(item), exported(item)) else { return };
        let path = format!("{path}::{}", renamed.unwrap_or(&name));
        let named = |tokens: TokenStream| replaced(tokens, &name, &path);
        let (line, mut parts) = match item {
            Item::Const(item) => (format!("const {path}: {}", render(item.ty.to_token_stream())), Vec::new()),
            Item::Static(item) => (format!("static {path}: {}", render(item.ty.to_token_stream())), Vec::new()),
            Item::Type(item) => (named(bare(Item::Type(item.clone()))), Vec::new()),
            Item::Fn(item) => match proc_macro(&item.attrs) {
                Some(kind) => (format!("{kind} {path}"), Vec::new()),
                None => (function(&item.sig, &path), Vec::new()),
            },
            Item::Struct(item) => (named(bare(Item::Struct(item.clone()))), fields(&path, &item.fields)),
            Item::Enum(item) => {
                let variants = item.variants.iter().filter(|variant| !is_hidden(&variant.attrs)).map(|variant| {
                    let mut shown = variant.clone();
                    (shown.attrs, shown.discriminant) = (Vec::new(), None);
                    shown.fields.iter_mut().for_each(|field| field.attrs.clear());
                    format!("variant {path}::{}{}", render(shown.to_token_stream()), marks(&variant.attrs))
                });
                (named(bare(Item::Enum(item.clone()))), variants.collect())
            }
            Item::Trait(item) => (named(bare(Item::Trait(item.clone()))), trait_items(&path, &item.items)),
            _ => return,
        };
        if let Item::Struct(_) | Item::Enum(_) | Item::Union(_) = item {
            parts.extend(self.members(&path, at, &name, attributes));
        }
        let conditions = [outer, &conditions(attributes)].concat();
        self.push(&path, format!("{line}{}", marks(attributes)), &conditions, parts);
    }

    /// Returns the lines for the methods, constants and traits of a type.
    fn members(&self, path: &str, at: &[String], name: &str, attributes: &[Attribute]) -> Vec<String> {
        let (mut own, mut traits) = (Vec::new(), derived(attributes));
        for block in self.impls.get(&(at.to_vec(), name.to_owned())).into_iter().flatten() {
            let mut head = (*block).clone();
            head.items.clear();
            head.attrs.clear();
            let suffix = suffix(&conditions(&block.attrs));
            if let Some((of, _)) = &block.trait_ {
                let is_drop = of.is_ident("Drop");
                let head = render(head.to_token_stream()).trim_end_matches("{}").trim_end().to_owned();
                traits.extend((!is_drop).then(|| format!("{head}{suffix}")));
                continue;
            }
            let generics = &block.generics;
            let of = [generics.to_token_stream(), generics.where_clause.to_token_stream()].map(render);
            let of = of.map(|text| text.trim().trim_end_matches(',').to_owned()).join(" ");
            let of = if of.trim().is_empty() { suffix } else { format!(" for impl{}{suffix}", of.trim_end()) };
            let found = block.items.iter().flat_map(|item| impl_item(path, item));
            own.extend(found.map(|line| format!("{line}{of}")));
        }
        own.sort();
        traits.sort();
        own.extend(traits);
        own
    }
}

fn impl_item(path: &str, item: &ImplItem) -> Vec<String> {
    match item {
        ImplItem::Fn(item) if is_visible(&item.vis) && !is_hidden(&item.attrs) => {
            let suffix = suffix(&conditions(&item.attrs));
            vec![function(&item.sig, &format!("{path}::{}", item.sig.ident.unraw())) + &suffix]
        }
        ImplItem::Const(item) if is_visible(&item.vis) && !is_hidden(&item.attrs) => {
            vec![format!("const {path}::{}: {}", item.ident, render(item.ty.to_token_stream()))]
        }
        // The input consists of any number of `name(field: Type)`.
        ImplItem::Macro(item) if item.mac.path.segments.last().is_some_and(|name| name.ident == "setters") => {
            let trees: Vec<_> = item.mac.tokens.clone().into_iter().collect();
            let setters = trees.chunks(2).filter_map(|pair| match pair {
                [TokenTree::Ident(name), TokenTree::Group(field)] => Some((name, field.stream())),
                _ => None,
            });
            setters.map(|(name, field)| format!("fn {path}::{name}(self, {}) -> Self", render(field))).collect()
        }
        _ => Vec::new(),
    }
}

fn trait_items(path: &str, items: &[TraitItem]) -> Vec<String> {
    let lines = items.iter().filter_map(|item| match item {
        TraitItem::Fn(item) if !is_hidden(&item.attrs) => {
            let line = function(&item.sig, &format!("{path}::{}", item.sig.ident.unraw()));
            Some(format!("{}{line}", if item.default.is_some() { "provided " } else { "required " }))
        }
        TraitItem::Type(item) if !is_hidden(&item.attrs) => {
            let mut shown = item.clone();
            shown.attrs.clear();
            Some(replaced(shown.to_token_stream(), &item.ident.to_string(), &format!("{path}::{}", item.ident)))
        }
        TraitItem::Const(item) if !is_hidden(&item.attrs) => {
            Some(format!("const {path}::{}: {}", item.ident, render(item.ty.to_token_stream())))
        }
        _ => None,
    });
    lines.collect()
}

fn fields(path: &str, fields: &Fields) -> Vec<String> {
    let lines = fields.iter().enumerate().filter(|(_, field)| is_visible(&field.vis) && !is_hidden(&field.attrs));
    let lines = lines.map(|(number, field)| {
        let name = field.ident.as_ref().map_or(number.to_string(), |name| name.unraw().to_string());
        format!("field {path}::{name}: {}{}", render(field.ty.to_token_stream()), suffix(&conditions(&field.attrs)))
    });
    lines.collect()
}

/// Returns the attributes of an item, and whether it is exported.
fn exported(item: &Item) -> Option<(&[Attribute], bool)> {
    let (attributes, visibility) = match item {
        Item::Const(item) => (&item.attrs, &item.vis),
        Item::Enum(item) => (&item.attrs, &item.vis),
        Item::Fn(item) => (&item.attrs, &item.vis),
        Item::Static(item) => (&item.attrs, &item.vis),
        Item::Struct(item) => (&item.attrs, &item.vis),
        Item::Trait(item) => (&item.attrs, &item.vis),
        Item::Type(item) => (&item.attrs, &item.vis),
        _ => return None,
    };
    Some((attributes, is_visible(visibility) && !is_hidden(attributes)))
}

/// Returns the tokens of an item without attributes, visibility and body.
fn bare(mut item: Item) -> TokenStream {
    let private = syn::Visibility::Inherited;
    match &mut item {
        Item::Enum(item) => (item.attrs, item.vis, item.variants) = (Vec::new(), private, Default::default()),
        Item::Struct(item) => {
            (item.attrs, item.vis, item.fields) = (Vec::new(), private, Fields::Unit);
            item.semi_token = Some(Default::default());
        }
        Item::Trait(item) => (item.attrs, item.vis, item.items) = (Vec::new(), private, Vec::new()),
        Item::Type(item) => (item.attrs, item.vis) = (Vec::new(), private),
        _ => {}
    }
    item.to_token_stream()
}

/// Returns the text of an item with its path instead of its name, and without an empty body.
fn replaced(tokens: TokenStream, name: &str, path: &str) -> String {
    let text = render(tokens);
    let text = text.trim_end_matches("{}").trim_end_matches([';', ' ', ',']);
    let text = text.strip_suffix(" where").unwrap_or(text);
    let (before, after) = text.split_once(name).unwrap();
    format!("{before}{path}{after}")
}

fn function(signature: &Signature, path: &str) -> String {
    let mut shown = signature.clone();
    for input in &mut shown.inputs {
        match input {
            FnArg::Receiver(receiver) => {
                receiver.attrs.clear();
                receiver.mutability = None;
            }
            FnArg::Typed(input) => {
                input.attrs.clear();
                if let Pat::Ident(name) = &mut *input.pat {
                    name.mutability = None;
                }
            }
        }
    }
    let name = format!("fn {}", signature.ident);
    replaced(shown.to_token_stream(), &name, &format!("fn {path}"))
}

fn proc_macro(attributes: &[Attribute]) -> Option<&'static str> {
    attributes.iter().find_map(|attribute| match attribute.path().get_ident()?.to_string().as_str() {
        "proc_macro" => Some("function-like macro"),
        "proc_macro_attribute" => Some("attribute macro"),
        "proc_macro_derive" => Some("derive macro"),
        _ => None,
    })
}

/// Returns the traits that an item derives, as `derive Trait`.
fn derived(attributes: &[Attribute]) -> Vec<String> {
    let derives = attributes.iter().filter(|attribute| attribute.path().is_ident("derive"));
    let lists = derives.filter_map(|attribute| match &attribute.meta {
        syn::Meta::List(list) => Some(render(list.tokens.clone())),
        _ => None,
    });
    lists.flat_map(|list| list.split(", ").map(|name| format!("derive {name}")).collect::<Vec<_>>()).collect()
}

/// Returns the attributes that are part of the public API.
fn marks(attributes: &[Attribute]) -> String {
    let marks = attributes.iter().filter_map(|attribute| attribute.path().get_ident());
    let marks = marks.filter(|name| *name == "non_exhaustive").map(|name| format!(" #[{name}]"));
    marks.collect()
}

fn suffix(conditions: &[String]) -> String {
    conditions.iter().map(|condition| format!(" #[{condition}]")).collect()
}

fn names(path: &syn::Path) -> Names {
    path.segments.iter().map(|segment| segment.ident.unraw().to_string()).collect()
}

#[test]
fn public_api_is_listed() {
    let directory = root().join("docs/public-api");
    let update = env::var_os("MSNB_UPDATE").is_some();
    let mut changes = Vec::new();
    for package in libraries() {
        let source = Crate::load(&package.library().unwrap().src_path, &|path| fs::read_to_string(path).ok());
        let lines = list(&source, &package.name.replace('-', "_"));
        let file = directory.join(format!("{}.txt", package.name));
        if update {
            fs::create_dir_all(&directory).unwrap();
            fs::write(&file, lines.join("\n") + "\n").unwrap();
        }
        let listed = fs::read_to_string(&file).unwrap_or_default();
        let listed: Vec<_> = listed.lines().collect();
        let removed = listed.iter().filter(|line| !lines.iter().any(|other| other == *line));
        changes.extend(removed.map(|line| format!("- {line}")));
        let added = lines.iter().filter(|line| !listed.contains(&line.as_str()));
        changes.extend(added.map(|line| format!("+ {line}")));
        if changes.is_empty() && listed != lines {
            changes.push(format!("{}: the order of the lines differs", package.name));
        }
    }
    assert!(
        changes.is_empty(),
        "the public items differ from docs/public-api (to accept this, run the test with MSNB_UPDATE=1):\n{}",
        changes.join("\n")
    );
}

#[test]
fn public_api_follows_reexports() {
    let files = [
        (
            "lib.rs",
            "mod a; pub mod b; #[doc(hidden)] pub mod c; #[cfg(feature = \"f\")] pub use a::{A as Z, Kind}; pub use d::D; pub use b::*;
             #[macro_export] macro_rules! m { () => {} }",
        ),
        (
            "a.rs",
            "#[derive(Clone, Debug)] #[non_exhaustive] pub struct A<T: Copy> { pub x: Vec<u8>, y: T }
             impl<T: Copy> A<T> { pub const N: u8 = 1; pub fn new(mut y: T,) -> Self { y } fn hidden() {}
             setters! { with_x(x: Vec<u8>) } }
             impl<T: Copy> From<T> for A<T> {} impl<T: Copy> Drop for A<T> {}
             pub enum Kind { One, #[doc(hidden)] Two, Three(u8), Four { a: u8 } } pub struct Private;",
        ),
        ("b.rs", "pub trait B: Send { type O: Copy; fn f(&self) -> Self::O; fn g(&self) {} } pub const fn h() {} pub(crate) fn i() {}"),
        ("c.rs", "pub struct C;"),
    ];
    let read = |path: &std::path::Path| {
        files.iter().find(|file| std::path::Path::new(file.0) == path).map(|file| file.1.to_owned())
    };
    let source = Crate::load(std::path::Path::new("lib.rs"), &read);
    let expected = "\
trait k::B: Send
    type k::B::O: Copy
    required fn k::B::f(&self) -> Self::O
    provided fn k::B::g(&self)
use k::D = d::D
enum k::Kind #[cfg(feature = \"f\")]
    variant k::Kind::One #[cfg(feature = \"f\")]
    variant k::Kind::Three(u8) #[cfg(feature = \"f\")]
    variant k::Kind::Four { a: u8 } #[cfg(feature = \"f\")]
struct k::Z<T: Copy> #[non_exhaustive] #[cfg(feature = \"f\")]
    field k::Z::x: Vec<u8> #[cfg(feature = \"f\")]
    const k::Z::N: u8 for impl<T: Copy> #[cfg(feature = \"f\")]
    fn k::Z::new(y: T) -> Self for impl<T: Copy> #[cfg(feature = \"f\")]
    fn k::Z::with_x(self, x: Vec<u8>) -> Self for impl<T: Copy> #[cfg(feature = \"f\")]
    derive Clone #[cfg(feature = \"f\")]
    derive Debug #[cfg(feature = \"f\")]
    impl<T: Copy> From<T> for A<T> #[cfg(feature = \"f\")]
mod k::b
trait k::b::B: Send
    type k::b::B::O: Copy
    required fn k::b::B::f(&self) -> Self::O
    provided fn k::b::B::g(&self)
const fn k::b::h()
const fn k::h()
macro k::m!";
    assert_eq!(list(&source, "k").join("\n"), expected);
}
