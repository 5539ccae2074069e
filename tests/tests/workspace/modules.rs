//! The modules of a crate, and the resolution of paths through `use`, re-exports, globs and exported macros.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use quote::ToTokens;
use syn::{Item, ItemMod, ItemUse, UseTree, Visibility, ext::IdentExt};

use crate::tokens;

/// The path of a module or of an item, without `crate`.
pub(crate) type Names = Vec<String>;

/// A target of a package, with all modules that its root file declares, directly or indirectly. It excludes test code.
pub(crate) struct Crate {
    pub(crate) modules: BTreeMap<Names, Module>,
    /// The module that defines each `macro_rules!` of the crate, by the name of the macro.
    macros: BTreeMap<String, Names>,
}

pub(crate) struct Module {
    /// The module of the file that contains this one; the module itself unless it is inline.
    pub(crate) unit: Names,
    /// Whether the module is `pub` and not `#[doc(hidden)]`.
    pub(crate) is_public: bool,
    /// The `cfg` attributes of the declaration.
    pub(crate) conditions: Vec<String>,
    pub(crate) items: Vec<Item>,
    pub(crate) imports: Vec<Import>,
    declared: BTreeSet<String>,
}

/// A name that a `use` imports into a module; `*` for a glob import.
#[derive(Clone)]
pub(crate) struct Import {
    pub(crate) path: Names,
    pub(crate) name: String,
    /// Whether the `use` has a visibility, so that it is a re-export.
    pub(crate) is_reexport: bool,
    pub(crate) is_public: bool,
    /// The `cfg` attributes of the `use`.
    pub(crate) conditions: Vec<String>,
}

/// The target of a path: a module, or an item of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) module: Names,
    pub(crate) item: Option<String>,
}

/// A module whose items have not been read yet.
struct Declaration {
    path: Names,
    unit: Names,
    is_public: bool,
    conditions: Vec<String>,
}

/// Returns the content of a file, or `None` if it does not exist.
pub(crate) type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

impl Crate {
    pub(crate) fn load(root: &Path, read: Read<'_>) -> Self {
        let mut all = Self { modules: BTreeMap::new(), macros: BTreeMap::new() };
        let root_module = Declaration { path: Vec::new(), unit: Vec::new(), is_public: true, conditions: Vec::new() };
        all.add_file(root_module, root, root.parent().unwrap(), read);
        all
    }

    /// Adds the module of a file whose child modules are in `directory`.
    fn add_file(&mut self, declaration: Declaration, file: &Path, directory: &Path, read: Read<'_>) {
        let text = read(file).unwrap_or_else(|| panic!("cannot read {}", file.display()));
        let items = tokens::parse(&text, &file.display().to_string()).items;
        self.add(declaration, items, file, directory, read);
    }

    fn add_child(&mut self, parent: &Declaration, module: &ItemMod, file: &Path, directory: &Path, read: Read<'_>) {
        let name = module.ident.unraw().to_string();
        let path = joined(&parent.path, &name);
        let is_public = is_visible(&module.vis) && !is_hidden(&module.attrs);
        let conditions = conditions(&module.attrs);
        if let Some((_, items)) = &module.content {
            let child = Declaration { path, unit: parent.unit.clone(), is_public, conditions };
            return self.add(child, items.clone(), file, &directory.join(&name), read);
        }
        let (found, below) = match path_attribute(&module.attrs) {
            Some(named) => {
                let found = clean(&file.parent().unwrap().join(named));
                let below = found.parent().unwrap().to_owned();
                (found, below)
            }
            None => module_file(directory, &name, read),
        };
        self.add_file(Declaration { unit: path.clone(), path, is_public, conditions }, &found, &below, read);
    }

    fn add(&mut self, declaration: Declaration, items: Vec<Item>, file: &Path, directory: &Path, read: Read<'_>) {
        for item in &items {
            match item {
                Item::Mod(module) => self.add_child(&declaration, module, file, directory, read),
                Item::Macro(rules) => {
                    if let Some(name) = &rules.ident {
                        self.macros.insert(name.unraw().to_string(), declaration.path.clone());
                    }
                }
                _ => {}
            }
        }
        let imports = items.iter().filter_map(|item| match item {
            Item::Use(import) => Some(imports(import)),
            _ => None,
        });
        let imports = imports.flatten().collect();
        let declared = items.iter().filter_map(item_name).collect();
        let Declaration { path, unit, is_public, conditions } = declaration;
        let module = Module { unit, is_public, conditions, items, imports, declared };
        // Modules with the same name under different conditions are merged.
        match self.modules.get_mut(&path) {
            Some(known) => {
                known.items.extend(module.items);
                known.imports.extend(module.imports);
                known.declared.extend(module.declared);
            }
            None => drop(self.modules.insert(path, module)),
        }
    }

    /// Resolves a path that `module` contains; returns `None` if the target is in another crate.
    ///
    /// If a module and an item have the name of the last segment, it returns the item.
    pub(crate) fn resolve(&self, module: &[String], path: &[String]) -> Option<Found> {
        self.resolve_within(module, path, false, 0)
    }

    fn resolve_within(&self, module: &[String], path: &[String], as_module: bool, depth: u32) -> Option<Found> {
        if depth > 16 {
            return None;
        }
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.walk(Vec::new(), rest, as_module, depth),
            "self" => self.walk(module.to_vec(), rest, as_module, depth),
            "super" => {
                let supers = path.iter().take_while(|name| *name == "super").count();
                let parent = module.get(..module.len().checked_sub(supers)?)?;
                self.walk(parent.to_vec(), &path[supers..], as_module, depth)
            }
            "Self" => None,
            _ => self.lookup(module, first, !rest.is_empty() || as_module, depth).and_then(|found| match found.item {
                Some(_) => Some(found),
                None => self.walk(found.module, rest, as_module, depth),
            }),
        }
    }

    fn walk(&self, mut module: Names, path: &[String], as_module: bool, depth: u32) -> Option<Found> {
        for (at, name) in path.iter().enumerate() {
            let is_last = at + 1 == path.len();
            let found = match self.lookup(&module, name, !is_last || as_module, depth) {
                Some(found) => found,
                // A macro declares the item.
                None => Found { module: module.clone(), item: Some(name.clone()) },
            };
            if found.item.is_some() {
                return Some(found);
            }
            module = found.module;
        }
        Some(Found { module, item: None })
    }

    /// Resolves a name in a module: an item, a child module or an import.
    fn lookup(&self, at: &[String], name: &str, as_module: bool, depth: u32) -> Option<Found> {
        let module = self.modules.get(at)?;
        let child = joined(at, name);
        let is_child = self.modules.contains_key(&child);
        let as_child = || Found { module: child.clone(), item: None };
        if is_child && as_module {
            return Some(as_child());
        }
        if module.declared.contains(name) {
            return Some(Found { module: at.to_vec(), item: Some(name.to_owned()) });
        }
        let named = module.imports.iter().filter(|import| import.name == name);
        let mut named: Vec<_> = named.filter_map(|import| self.resolve_import(at, import, as_module, depth)).collect();
        named.sort_by_key(|found| found.item.is_none());
        if let Some(found) = named.into_iter().next() {
            return Some(found);
        }
        if is_child {
            return Some(as_child());
        }
        let globs = module.imports.iter().filter(|import| import.name == "*");
        let globs = globs.filter_map(|import| self.resolve_within(at, &import.path, true, depth + 1));
        let globs = globs.filter(|found| found.item.is_none() && found.module != at);
        if let Some(found) = globs.filter_map(|found| self.lookup(&found.module, name, as_module, depth + 1)).next() {
            return Some(found);
        }
        let is_macro = at.is_empty() && self.macros.contains_key(name);
        is_macro.then(|| Found { module: self.macros[name].clone(), item: Some(name.to_owned()) })
    }

    fn resolve_import(&self, at: &[String], import: &Import, as_module: bool, depth: u32) -> Option<Found> {
        // `use tokio;` refers to a crate, not to the import itself.
        if import.path.first() == Some(&import.name) && !self.modules.contains_key(&joined(at, &import.name)) {
            return None;
        }
        self.resolve_within(at, &import.path, as_module, depth + 1)
    }
}

/// Returns the names that a `use` imports.
pub(crate) fn imports(item: &ItemUse) -> Vec<Import> {
    let mut found = Vec::new();
    let is_reexport = !matches!(item.vis, Visibility::Inherited);
    let is_public = is_visible(&item.vis) && !is_hidden(&item.attrs);
    if item.leading_colon.is_none() {
        collect(&item.tree, &mut Vec::new(), &mut |path: Names, name| {
            let conditions = conditions(&item.attrs);
            found.push(Import { path, name, is_reexport, is_public, conditions });
        });
    }
    found
}

fn collect(tree: &UseTree, path: &mut Names, add: &mut dyn FnMut(Names, String)) {
    match tree {
        UseTree::Path(part) => {
            path.push(part.ident.unraw().to_string());
            collect(&part.tree, path, add);
            path.pop();
        }
        UseTree::Name(part) if part.ident == "self" => add(path.clone(), path.last().cloned().unwrap_or_default()),
        UseTree::Name(part) => add(joined(path, &part.ident.unraw().to_string()), part.ident.unraw().to_string()),
        UseTree::Rename(part) if part.ident == "self" => add(path.clone(), part.rename.unraw().to_string()),
        UseTree::Rename(part) => add(joined(path, &part.ident.unraw().to_string()), part.rename.unraw().to_string()),
        UseTree::Glob(_) => add(path.clone(), "*".to_owned()),
        UseTree::Group(group) => group.items.iter().for_each(|tree| collect(tree, path, add)),
    }
}

/// Returns the name of an item that is neither a module nor a `use`.
pub(crate) fn item_name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.unraw().to_string())
}

pub(crate) fn is_visible(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Returns whether the attributes contain `#[doc(hidden)]`.
pub(crate) fn is_hidden(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("doc") && list.tokens.to_string() == "hidden",
        _ => false,
    })
}

/// Returns the `cfg` attributes.
pub(crate) fn conditions(attributes: &[syn::Attribute]) -> Vec<String> {
    let conditions = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    conditions.map(|attribute| tokens::render(attribute.meta.to_token_stream())).collect()
}

fn path_attribute(attributes: &[syn::Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| {
        let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
        let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &pair.value else { return None };
        pair.path.is_ident("path").then(|| text.value())
    })
}

/// Returns the file of the module `name` in `directory`, and the directory of its child modules.
fn module_file(directory: &Path, name: &str, read: Read<'_>) -> (PathBuf, PathBuf) {
    let below = directory.join(name);
    let flat = directory.join(format!("{name}.rs"));
    let file = if read(&flat).is_some() { flat } else { below.join("mod.rs") };
    (file, below)
}

/// Returns a path without `..`.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(cleaned.pop()),
            other => cleaned.push(other),
        }
    }
    cleaned
}

pub(crate) fn joined(path: &[String], name: &str) -> Names {
    let mut path = path.to_vec();
    path.push(name.to_owned());
    path
}
