//! [`ServiceOptions`]: the options of `#[rpc_service(…)]`.

use proc_macro2::TokenStream;
use syn::{Ident, LitStr, Path, ext::IdentExt};

use super::settings;
use crate::{diagnostics::Diagnostics, wire_name};

const KNOWN: &str = "`name = \"demo.Greeter\"`, `version = \"1.0\"`, `codec = \"messagepack\"`, `crate = \"rpc_core\"`";

/// The options of `#[rpc_service(…)]`, or their defaults.
pub(crate) struct ServiceOptions {
    /// The name of the service; default: the name of the trait.
    pub(crate) name: String,
    /// The version of the service; default: `1.0`.
    pub(crate) version: String,
    /// The variant of `rpc_core::Codec` that calls use unless they set another one.
    pub(crate) codec: Option<Ident>,
    /// The path of rpc-core, or of a crate that exports its items.
    pub(crate) core: Path,
}

impl ServiceOptions {
    /// Parses the tokens of the attribute of the trait `ident`. `core` is the default of the option `crate`.
    pub(crate) fn parse(tokens: TokenStream, ident: &Ident, core: Path, diagnostics: &mut Diagnostics) -> Self {
        let (mut name, mut version, mut codec, mut set_core) = (None, None, None, None);
        for setting in settings(tokens, diagnostics) {
            match setting.option.as_str() {
                "name" => name = setting.text("demo.Greeter", diagnostics),
                "version" => version = setting.text("1.0", diagnostics),
                "codec" => {
                    let text = setting.text("messagepack", diagnostics);
                    codec = text.and_then(|text| codec_variant(&text, diagnostics));
                }
                "crate" => set_core = setting.text("rpc_core", diagnostics),
                _ => setting.unknown(KNOWN, diagnostics),
            }
        }
        let options = Self {
            name: match &name {
                Some(literal) => checked("service name", literal, diagnostics),
                None => default_name(ident, diagnostics),
            },
            version: version.as_ref().map_or("1.0".to_owned(), |text| checked("service version", text, diagnostics)),
            codec,
            core: set_core.and_then(|text| crate_path(&text, diagnostics)).unwrap_or(core),
        };
        let length = options.name.len() + 1 + options.version.len();
        if length > wire_name::MAX_LEN && diagnostics.is_empty() {
            let message =
                format!("`name:version` is {length} bytes, limit is {}: use a shorter name", wire_name::MAX_LEN);
            match name.or(version) {
                Some(literal) => diagnostics.error(literal, message),
                None => diagnostics.error(ident, message),
            }
        }
        options
    }
}

fn checked(what: &str, literal: &LitStr, diagnostics: &mut Diagnostics) -> String {
    if let Some(fault) = wire_name::fault(what, &literal.value()) {
        diagnostics.error(literal, fault);
    }
    literal.value()
}

fn default_name(ident: &Ident, diagnostics: &mut Diagnostics) -> String {
    let name = ident.unraw().to_string();
    if let Some(fault) = wire_name::fault("service name", &name) {
        diagnostics.error(ident, format!("{fault}: set a name with `#[rpc_service(name = \"…\")]`"));
    }
    name
}

/// Returns the variant of `rpc_core::Codec` with this name.
fn codec_variant(text: &LitStr, diagnostics: &mut Diagnostics) -> Option<Ident> {
    let variant = match text.value().as_str() {
        "bincode" => "Bincode",
        "json" => "Json",
        "messagepack" => "MessagePack",
        "raw" => "Raw",
        _ => {
            let message = "unknown codec, expected `bincode`, `json`, `messagepack` or `raw`";
            diagnostics.error(text, message);
            return None;
        }
    };
    Some(Ident::new(variant, text.span()))
}

/// Parses a path, such as `rpc_core`, `::rpc_core` or `crate::contracts::rpc_core`.
fn crate_path(text: &LitStr, diagnostics: &mut Diagnostics) -> Option<Path> {
    match text.parse_with(Path::parse_mod_style) {
        Ok(path) => Some(path),
        Err(_) => {
            diagnostics.error(text, "`crate` needs the path of rpc-core: write `crate = \"rpc_core\"`");
            None
        }
    }
}
