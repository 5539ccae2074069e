//! The names that the sources of the workspace declare, in the notation of documents: `Type::item`, `module::item`,
//! `CONSTANT`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use proc_macro2::{TokenStream, TokenTree};
use syn::{Fields, ImplItem, Item, TraitItem, Type, ext::IdentExt};

use crate::{
    modules::{imports, item_name},
    sources::{FILES, METADATA, members},
};

/// The declared names.
pub(crate) struct Symbols {
    /// The declared names by the unqualified name of the type, trait, module or crate that contains them.
    held: BTreeMap<String, BTreeSet<String>>,
    constants: BTreeSet<String>,
    /// The modules that export all names of another crate, or are another name for it, and that crate.
    globs: Vec<(String, String)>,
    /// The names of crates outside the workspace.
    foreign: BTreeSet<String>,
}

impl Symbols {
    pub(crate) fn of_workspace() -> Self {
        let own: BTreeSet<&str> = members().map(|package| package.name.as_str()).collect();
        let others = METADATA.packages.iter().map(|package| package.name.as_str()).filter(|name| !own.contains(name));
        let foreign = ["std", "core", "alloc"].into_iter().chain(others).map(|name| name.replace('-', "_")).collect();
        let mut symbols = Self { held: BTreeMap::new(), constants: BTreeSet::new(), globs: Vec::new(), foreign };
        for (path, text) in FILES.iter() {
            // Skip inputs of the tests of rpc-macros that are not valid Rust.
            let Ok(tokens) = text.parse::<TokenStream>() else { continue };
            let Ok(file) = syn::parse2::<syn::File>(tokens.clone()) else { continue };
            for module in module_names(path) {
                symbols.add_names(&module, tokens.clone());
                symbols.add(&module, &file.items);
            }
        }
        for (module, of) in std::mem::take(&mut symbols.globs) {
            let names = symbols.held.get(&of).cloned().unwrap_or_default();
            symbols.held.entry(module).or_default().extend(names);
        }
        symbols
    }

    fn hold(&mut self, container: &str, name: impl Into<String>) {
        self.held.entry(container.to_owned()).or_default().insert(name.into());
    }

    fn add(&mut self, module: &str, items: &[Item]) {
        for item in items {
            if let Some(name) = item_name(item) {
                self.hold(module, name.clone());
                self.add_members(&name, item);
            }
            match item {
                Item::Mod(inner) => {
                    let name = inner.ident.unraw().to_string();
                    self.hold(module, name.clone());
                    self.add(&name, inner.content.as_ref().map_or(&[], |(_, items)| items));
                }
                Item::Use(item) => {
                    for import in imports(item) {
                        match &import.path[..] {
                            [of] if import.name == "*" => self.globs.push((module.to_owned(), of.clone())),
                            // A crate that another one exports as a module.
                            [of] if import.is_reexport && import.name != *of => {
                                self.hold(module, import.name.clone());
                                self.globs.push((import.name, of.clone()));
                            }
                            _ => self.hold(module, import.name),
                        }
                    }
                }
                Item::Impl(block) => {
                    if let Some(name) = type_name(&block.self_ty) {
                        block.items.iter().for_each(|item| self.add_impl_item(&name, item));
                    }
                }
                _ => {}
            }
        }
    }

    fn add_members(&mut self, name: &str, item: &Item) {
        match item {
            Item::Const(_) | Item::Static(_) => drop(self.constants.insert(name.to_owned())),
            Item::Struct(item) => self.add_fields(name, &item.fields),
            Item::Enum(item) => {
                for variant in &item.variants {
                    self.hold(name, variant.ident.to_string());
                    self.add_fields(name, &variant.fields);
                }
            }
            Item::Trait(item) => {
                for item in &item.items {
                    match item {
                        TraitItem::Fn(item) => self.hold(name, item.sig.ident.unraw().to_string()),
                        TraitItem::Const(item) => self.hold(name, item.ident.to_string()),
                        TraitItem::Type(item) => self.hold(name, item.ident.to_string()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn add_fields(&mut self, name: &str, fields: &Fields) {
        let names = fields.iter().filter_map(|field| field.ident.as_ref());
        names.for_each(|field| self.hold(name, field.unraw().to_string()));
    }

    fn add_impl_item(&mut self, name: &str, item: &ImplItem) {
        match item {
            ImplItem::Fn(item) => self.hold(name, item.sig.ident.unraw().to_string()),
            ImplItem::Const(item) => {
                self.hold(name, item.ident.to_string());
                self.constants.insert(item.ident.to_string());
            }
            ImplItem::Type(item) => self.hold(name, item.ident.to_string()),
            // The input of `setters!` names the generated methods.
            ImplItem::Macro(item) => {
                let names = item.mac.tokens.clone().into_iter().filter_map(|tree| match tree {
                    TokenTree::Ident(ident) => Some(ident.to_string()),
                    _ => None,
                });
                names.for_each(|made| self.hold(name, made));
            }
            _ => {}
        }
    }

    /// Adds the declarations of a file at any depth, including those in functions and macros such as `proptest!`.
    fn add_names(&mut self, module: &str, tokens: TokenStream) {
        let mut declares = None;
        for tree in tokens {
            match &tree {
                TokenTree::Group(group) => self.add_names(module, group.stream()),
                TokenTree::Ident(ident) => {
                    match declares.take().as_deref() {
                        Some("const" | "static") => drop(self.constants.insert(ident.to_string())),
                        Some(_) => self.hold(module, ident.to_string()),
                        None => {}
                    }
                    let name = ident.to_string();
                    declares = ["fn", "const", "static"].contains(&name.as_str()).then_some(name);
                    continue;
                }
                _ => {}
            }
            declares = None;
        }
    }

    /// Returns whether the second last name of a path contains the last one, or the path starts with a crate outside the
    /// workspace.
    pub(crate) fn has_path(&self, path: &[&str]) -> bool {
        let [.., container, name] = path else { return false };
        self.held.get(*container).is_some_and(|held| held.contains(*name)) || self.foreign.contains(path[0])
    }

    pub(crate) fn has_constant(&self, name: &str) -> bool {
        self.constants.contains(name)
    }
}

/// Returns the names of a file's module: its own, and for a root file that of its crate.
fn module_names(path: &Path) -> Vec<String> {
    let stem = |path: &Path| path.file_stem().unwrap().to_string_lossy().replace('-', "_");
    let mut names: Vec<String> = members()
        .flat_map(|package| package.targets.iter().map(move |target| (package, target)))
        .filter(|(_, target)| target.src_path == path)
        .map(|(package, _)| package.name.replace('-', "_"))
        .collect();
    let is_folder = ["mod.rs", "main.rs", "lib.rs"].iter().any(|name| path.ends_with(name));
    names.push(if is_folder { stem(path.parent().unwrap()) } else { stem(path) });
    names
}

fn type_name(of: &Type) -> Option<String> {
    match of {
        Type::Path(path) => Some(path.path.segments.last()?.ident.unraw().to_string()),
        Type::Reference(reference) => type_name(&reference.elem),
        _ => None,
    }
}
