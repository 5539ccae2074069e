//! [`Method`]: one method of a contract.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, Block, Ident, Safety, Signature, Token, TraitItemFn, ext::IdentExt};

use crate::{
    answer::Answer,
    ident,
    mistakes::Mistakes,
    options::MethodOptions,
    parameter::{self, Parameter},
    wire_name,
};

/// Names that the client has for itself.
const CLIENT_NAMES: [&str; 2] = ["new", "local"];

/// One method of a contract.
pub(crate) struct Method {
    /// What the user wrote above it, without `#[rpc(…)]`.
    pub(crate) attributes: Vec<Attribute>,
    /// `fn`, for its place.
    pub(crate) fn_token: Token![fn],
    /// The name in Rust.
    pub(crate) ident: Ident,
    /// The name as a type.
    pub(crate) marker: Ident,
    /// The name on the wire.
    pub(crate) wire_name: String,
    /// Where the wire name was written.
    pub(crate) wire_name_at: TokenStream,
    /// What it is given, besides `&self`.
    pub(crate) parameters: Vec<Parameter>,
    /// What it gives back.
    pub(crate) answer: Answer,
    /// What `#[rpc(…)]` says.
    pub(crate) options: MethodOptions,
    /// The default body.
    pub(crate) body: Option<Block>,
}

impl Method {
    /// Reads a method of a trait. What comes back is whole enough for the reading to go on after a mistake.
    pub(crate) fn parse(item: &TraitItemFn, mistakes: &mut Mistakes) -> Self {
        let signature = &item.sig;
        let mut attributes = item.attrs.clone();
        let options = MethodOptions::take(&mut attributes, mistakes);
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")) {
            mistakes.at(attribute, "both ends of a contract have the same methods: put the condition on the trait");
        }
        check_signature(signature, mistakes);
        if let Some(defaultness) = &item.modifiers.defaultness {
            mistakes.at(defaultness, "specialization is not known here: drop `default`");
        }
        let (wire_name, wire_name_at) = wire_name_of(&signature.ident, &options, mistakes);
        Self {
            attributes,
            fn_token: signature.fn_token,
            ident: signature.ident.clone(),
            marker: ident::camel(&signature.ident),
            wire_name,
            wire_name_at,
            parameters: parameter::typed(&signature.inputs)
                .filter_map(|argument| Parameter::parse(argument, item.default.is_some(), mistakes))
                .collect(),
            answer: Answer::parse(signature, options.one_way, mistakes),
            options,
            body: item.default.clone(),
        }
    }

    /// The user's words, or `otherwise`.
    pub(crate) fn docs(&self, otherwise: &str) -> TokenStream {
        let mut docs = self.attributes.iter().filter(|attribute| attribute.path().is_ident("doc")).peekable();
        if docs.peek().is_some() { quote!(#(#docs)*) } else { quote!(#[doc = #otherwise]) }
    }
}

fn wire_name_of(ident: &Ident, options: &MethodOptions, mistakes: &mut Mistakes) -> (String, TokenStream) {
    if let Some(name) = &options.name {
        return (name.value(), name.to_token_stream());
    }
    let name = ident.unraw().to_string();
    if let Some(fault) = wire_name::fault("a method's name on the wire", &name) {
        mistakes.at(ident, format!("{fault}: write `#[rpc(name = \"…\")]`"));
    }
    (name, ident.to_token_stream())
}

fn check_signature(signature: &Signature, mistakes: &mut Mistakes) {
    let name = &signature.ident;
    if CLIENT_NAMES.iter().any(|taken| name == taken) {
        let message = format!(
            "the client has a `{name}` of its own: call the method otherwise, and write `#[rpc(name = \"{name}\")]` for the wire"
        );
        mistakes.at(name, message);
    }
    if let Some(constness) = &signature.constness {
        mistakes.at(constness, "a call is never constant: drop `const`");
    }
    if let Safety::Unsafe(unsafety) = &signature.safety {
        mistakes.at(unsafety, "a caller far away can promise nothing: drop `unsafe`");
    }
    if let Some(abi) = &signature.abi {
        mistakes.at(abi, "calls have a protocol of their own: drop `extern`");
    }
    if signature.asyncness.is_none() {
        mistakes.at(signature.fn_token, format!("a call takes time: write `async fn {name}`"));
    }
    if !signature.generics.params.is_empty() {
        let message = "both ends of a contract must know all types: write them instead of generics and lifetimes";
        mistakes.at(&signature.generics, message);
    }
    if let Some(clause) = &signature.generics.where_clause {
        mistakes.at(clause, "both ends of a contract must know all types: drop the `where`");
    }
    match signature.receiver() {
        Some(receiver) => parameter::check_receiver(receiver, mistakes),
        None => mistakes.at(name, format!("a call goes to a service: write `async fn {name}(&self, …)`")),
    }
}
