//! [`Contract`]: a parsed and checked trait.

use std::collections::HashMap;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{
    Attribute, FnArg, Ident, ItemTrait, Path, Token, TraitItem, TypeParamBound, Visibility, parse_quote,
    punctuated::Punctuated,
};

use crate::{
    diagnostics::Diagnostics,
    ident::Fresh,
    method::Method,
    options::{MethodOptions, ServiceOptions},
};

/// A parsed and checked trait, on which client and server agree.
pub(crate) struct Contract {
    /// The attributes and doc comments of the trait.
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) ident: Ident,
    pub(crate) supertraits: Punctuated<TypeParamBound, Token![+]>,
    /// The options of `#[rpc_service(…)]`.
    pub(crate) options: ServiceOptions,
    /// The methods, by their number.
    pub(crate) methods: Vec<Method>,
    /// Creates identifiers that do not occur in the trait.
    pub(crate) fresh: Fresh,
}

impl Contract {
    /// Parses a trait and the tokens of its attribute. `core` is the default of the option `crate`.
    ///
    /// # Errors
    ///
    /// All errors of the trait at once.
    pub(crate) fn parse(attribute: TokenStream, item: &ItemTrait, core: Path) -> Result<Self, Diagnostics> {
        let mut diagnostics = Diagnostics::default();
        let options = ServiceOptions::parse(attribute, &item.ident, core, &mut diagnostics);
        check_head(item, &mut diagnostics);
        let methods: Vec<Method> = item
            .items
            .iter()
            .filter_map(|item| match item {
                TraitItem::Fn(method) => Some(Method::parse(method, &mut diagnostics)),
                other => {
                    diagnostics
                        .error(other, "service traits can only contain methods: move this item to another trait");
                    None
                }
            })
            .collect();
        check_names(&methods, &mut diagnostics);
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        Ok(Self {
            attributes: item.attrs.clone(),
            visibility: item.vis.clone(),
            ident: item.ident.clone(),
            supertraits: item.supertraits.clone(),
            options,
            methods,
            fresh: Fresh::new(item.to_token_stream()),
        })
    }
}

/// Returns the trait without the syntax of this macro and without the reported errors.
///
/// Emitting it next to the errors keeps its name and methods known to the compiler, which would report further errors
/// otherwise.
pub(crate) fn recovered(mut item: ItemTrait) -> ItemTrait {
    item.attrs.push(parse_quote!(#[allow(async_fn_in_trait)]));
    item.supertraits.push(parse_quote!(::core::marker::Sized));
    for item in &mut item.items {
        let TraitItem::Fn(method) = item else { continue };
        MethodOptions::take(&mut method.attrs, &mut Diagnostics::default());
        for argument in &mut method.sig.inputs {
            if let FnArg::Typed(argument) = argument {
                argument.attrs.retain(|attribute| !attribute.path().is_ident("rpc"));
            }
        }
        if method.default.is_none() {
            for argument in &mut method.sig.inputs {
                if let FnArg::Typed(argument) = argument {
                    *argument.pat = parse_quote!(_);
                }
            }
        }
    }
    item
}

fn check_head(item: &ItemTrait, diagnostics: &mut Diagnostics) {
    if let Some(unsafety) = &item.unsafety {
        diagnostics.error(unsafety, "service traits cannot be `unsafe`");
    }
    if let Some(auto) = &item.modifiers.auto_token {
        diagnostics.error(auto, "service traits cannot be `auto`");
    }
    if !item.generics.params.is_empty() {
        diagnostics.error(&item.generics, "service traits cannot be generic: use concrete types");
    }
    if let Some(clause) = &item.generics.where_clause {
        diagnostics.error(clause, "service traits cannot have a `where` clause");
    }
}

fn check_names(methods: &[Method], diagnostics: &mut Diagnostics) {
    let (mut wire_names, mut markers) = (HashMap::new(), HashMap::new());
    for method in methods {
        if let Some(earlier) = wire_names.insert(&method.wire_name, &method.ident) {
            let message = format!(
                "the wire name `{}` is already used by `{earlier}`: set another name with `#[rpc(name = \"…\")]`",
                method.wire_name
            );
            diagnostics.error(&method.wire_name_at, message);
        } else if let Some(earlier) = markers.insert(&method.marker, &method.ident) {
            let message = format!(
                "the generated type `{}` is already used by the method `{earlier}`: rename one of the methods",
                method.marker
            );
            diagnostics.error(&method.ident, message);
        }
    }
}
