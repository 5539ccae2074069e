//! [`Contract`]: a trait, read and checked.

use std::collections::HashMap;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{
    Attribute, FnArg, Ident, ItemTrait, Token, TraitItem, TypeParamBound, Visibility, parse_quote,
    punctuated::Punctuated,
};

use crate::{
    ident::Fresh,
    method::Method,
    mistakes::Mistakes,
    options::{MethodOptions, ServiceOptions},
};

/// A trait that both ends agree on.
pub(crate) struct Contract {
    /// What the user wrote above it.
    pub(crate) attributes: Vec<Attribute>,
    /// Who may use it.
    pub(crate) visibility: Visibility,
    /// Its name.
    pub(crate) ident: Ident,
    /// What else its implementations implement.
    pub(crate) supertraits: Punctuated<TypeParamBound, Token![+]>,
    /// What `#[rpc_service(…)]` says.
    pub(crate) options: ServiceOptions,
    /// Its methods, in the order of their numbers.
    pub(crate) methods: Vec<Method>,
    /// Names that nothing in it has.
    pub(crate) fresh: Fresh,
}

impl Contract {
    /// Reads a trait and what its attribute says.
    ///
    /// # Errors
    ///
    /// All mistakes at once.
    pub(crate) fn parse(attribute: TokenStream, item: &ItemTrait) -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::default();
        let options = ServiceOptions::parse(attribute, &item.ident, &mut mistakes);
        check_head(item, &mut mistakes);
        let methods: Vec<Method> = item
            .items
            .iter()
            .filter_map(|item| match item {
                TraitItem::Fn(method) => Some(Method::parse(method, &mut mistakes)),
                other => {
                    mistakes.at(other, "a contract has methods only: move this to another trait");
                    None
                }
            })
            .collect();
        check_names(&methods, &mut mistakes);
        if !mistakes.is_empty() {
            return Err(mistakes);
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

/// The trait without what only this macro understands and what it told of already: a mistake makes nothing else unknown, and
/// is told once.
pub(crate) fn without_mistakes(mut item: ItemTrait) -> ItemTrait {
    item.attrs.push(parse_quote!(#[allow(async_fn_in_trait)]));
    item.supertraits.push(parse_quote!(::core::marker::Sized));
    for item in &mut item.items {
        let TraitItem::Fn(method) = item else { continue };
        MethodOptions::take(&mut method.attrs, &mut Mistakes::default());
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

fn check_head(item: &ItemTrait, mistakes: &mut Mistakes) {
    if let Some(unsafety) = &item.unsafety {
        mistakes.at(unsafety, "a caller far away can promise nothing: drop `unsafe`");
    }
    if let Some(auto) = &item.modifiers.auto_token {
        mistakes.at(auto, "a contract is implemented by hand: drop `auto`");
    }
    if !item.generics.params.is_empty() {
        mistakes.at(&item.generics, "both ends of a contract must know all types: write them instead of generics");
    }
    if let Some(clause) = &item.generics.where_clause {
        mistakes.at(clause, "both ends of a contract must know all types: drop the `where`");
    }
}

fn check_names(methods: &[Method], mistakes: &mut Mistakes) {
    let (mut wire_names, mut markers) = (HashMap::new(), HashMap::new());
    for method in methods {
        if let Some(earlier) = wire_names.insert(&method.wire_name, &method.ident) {
            let message = format!(
                "`{earlier}` has the name `{}` on the wire already: write another `#[rpc(name = \"…\")]`",
                method.wire_name
            );
            mistakes.at(&method.wire_name_at, message);
        } else if let Some(earlier) = markers.insert(&method.marker, &method.ident) {
            let message = format!("as a type, this method and `{earlier}` are both `{}`: rename one", method.marker);
            mistakes.at(&method.ident, message);
        }
    }
}
