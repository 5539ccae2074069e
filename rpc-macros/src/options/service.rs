//! [`ServiceOptions`]: what `#[rpc_service(…)]` says.

use proc_macro2::TokenStream;
use syn::{Ident, LitStr, Path, ext::IdentExt, parse_quote};

use super::settings;
use crate::{mistakes::Mistakes, wire_name};

const KNOWN: &str = "`name = \"demo.Greeter\"`, `version = \"1.0\"` and `crate = \"rpc_core\"`";

/// What `#[rpc_service(…)]` says, or the defaults.
pub(crate) struct ServiceOptions {
    /// The service's name; else the trait's.
    pub(crate) name: String,
    /// The service's version; else `1.0`.
    pub(crate) version: String,
    /// The path of rpc-core; else `::rpc_core`.
    pub(crate) core: Path,
}

impl ServiceOptions {
    /// Reads the attribute of the trait `ident`.
    pub(crate) fn parse(tokens: TokenStream, ident: &Ident, mistakes: &mut Mistakes) -> Self {
        let (mut name, mut version, mut core) = (None, None, None);
        for setting in settings(tokens, mistakes) {
            match setting.option.as_str() {
                "name" => name = setting.text("demo.Greeter", mistakes),
                "version" => version = setting.text("1.0", mistakes),
                "crate" => core = setting.text("rpc_core", mistakes),
                _ => setting.unknown(KNOWN, mistakes),
            }
        }
        let options = Self {
            name: match &name {
                Some(literal) => checked("a service's name", literal, mistakes),
                None => default_name(ident, mistakes),
            },
            version: version.as_ref().map_or("1.0".to_owned(), |text| checked("a version", text, mistakes)),
            core: core.and_then(|text| crate_path(&text, mistakes)).unwrap_or_else(|| parse_quote!(::rpc_core)),
        };
        let length = options.name.len() + 1 + options.version.len();
        if length > wire_name::MAX_LEN && mistakes.is_empty() {
            let message = format!(
                "`name:version` has at most {} bytes; this one has {length}: write a shorter name",
                wire_name::MAX_LEN
            );
            match name.or(version) {
                Some(literal) => mistakes.at(literal, message),
                None => mistakes.at(ident, message),
            }
        }
        options
    }
}

fn checked(what: &str, literal: &LitStr, mistakes: &mut Mistakes) -> String {
    if let Some(fault) = wire_name::fault(what, &literal.value()) {
        mistakes.at(literal, fault);
    }
    literal.value()
}

fn default_name(ident: &Ident, mistakes: &mut Mistakes) -> String {
    let name = ident.unraw().to_string();
    if let Some(fault) = wire_name::fault("a service's name", &name) {
        mistakes.at(ident, format!("{fault}: write `#[rpc_service(name = \"…\")]`"));
    }
    name
}

/// The path as it is written: `rpc_core`, `::rpc_core`, `crate::contracts::rpc_core`.
fn crate_path(text: &LitStr, mistakes: &mut Mistakes) -> Option<Path> {
    match text.parse_with(Path::parse_mod_style) {
        Ok(path) => Some(path),
        Err(_) => {
            mistakes.at(text, "`crate` takes the path at which rpc-core is found: write `crate = \"rpc_core\"`");
            None
        }
    }
}
