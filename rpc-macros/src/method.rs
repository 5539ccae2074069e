//! [`Method`]: a parsed and checked method of a contract.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, Block, Ident, Safety, Signature, Token, TraitItemFn, ext::IdentExt};

use crate::{
    answer::Answer,
    diagnostics::Diagnostics,
    ident,
    options::{MethodOptions, parse_http},
    parameter::{self, ItemsParameter, Parameter},
    wire_name, wire_type,
};

/// The associated functions of every client.
const CLIENT_NAMES: [&str; 3] = ["new", "local", "contract"];

/// A parsed and checked method of a contract.
pub(crate) struct Method {
    /// The attributes and doc comments, without `#[rpc(…)]`.
    pub(crate) attributes: Vec<Attribute>,
    /// The `fn` keyword, for its span.
    pub(crate) fn_token: Token![fn],
    /// The name in Rust.
    pub(crate) ident: Ident,
    /// The name of the generated type.
    pub(crate) marker: Ident,
    /// The name on the wire.
    pub(crate) wire_name: String,
    /// The tokens of the wire name, for errors.
    pub(crate) wire_name_at: TokenStream,
    /// The parameters after `&self`.
    pub(crate) parameters: Vec<Parameter>,
    /// The last parameter, if it is a stream.
    pub(crate) items: Option<ItemsParameter>,
    pub(crate) answer: Answer,
    /// The options of `#[rpc(…)]`.
    pub(crate) options: MethodOptions,
    /// The default body.
    pub(crate) body: Option<Block>,
}

impl Method {
    /// Parses a method of a trait.
    ///
    /// After an error, the result is complete enough to check the rest of the trait.
    pub(crate) fn parse(item: &TraitItemFn, diagnostics: &mut Diagnostics) -> Self {
        let signature = &item.sig;
        let mut attributes = item.attrs.clone();
        let options = MethodOptions::take(&mut attributes, diagnostics);
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")) {
            diagnostics.error(attribute, "service methods cannot be conditional: put the `cfg` on the trait");
        }
        check_signature(signature, diagnostics);
        if let Some(defaultness) = &item.modifiers.defaultness {
            diagnostics.error(defaultness, "service methods cannot be `default`");
        }
        let (wire_name, wire_name_at) = wire_name_of(&signature.ident, &options, diagnostics);
        let mut arguments: Vec<_> = parameter::typed(&signature.inputs).collect();
        let items = arguments.pop_if(|last| wire_type::stream_arguments(&last.ty).is_some());
        let has_body = item.default.is_some();
        let parameters: Vec<Parameter> =
            arguments.into_iter().filter_map(|argument| Parameter::parse(argument, has_body, diagnostics)).collect();
        let items = items.and_then(|argument| ItemsParameter::parse(argument, has_body, diagnostics));
        let answer = Answer::parse(signature, options.one_way, diagnostics);
        let has_streams = items.is_some() || answer.kind.stream().is_some();
        if has_streams && (options.one_way || options.once.is_some()) {
            let message = "methods with streams cannot be `once` or `one_way`: a stream has no single answer to store, \
                           and its caller waits for the end";
            diagnostics.error(&signature.ident, message);
        }
        if let (None, Some((_, at))) = (answer.kind.stream(), &options.stream_timeout) {
            let message =
                "only methods that return a stream have a stream timeout: `timeout` limits the call until its answer";
            diagnostics.error(at, message);
        }
        check_cursor(&parameters, items.is_some(), &answer, diagnostics);
        check_http(&options, &parameters, items.is_some(), diagnostics);
        Self {
            attributes,
            fn_token: signature.fn_token,
            ident: signature.ident.clone(),
            marker: ident::camel(&signature.ident),
            wire_name,
            wire_name_at,
            parameters,
            items,
            answer,
            options,
            body: item.default.clone(),
        }
    }

    /// Returns the parameter that carries the cursor of a stream.
    pub(crate) fn cursor(&self) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.is_cursor)
    }

    /// Returns the doc comment of the method, or `otherwise`.
    pub(crate) fn docs(&self, otherwise: &str) -> TokenStream {
        let mut docs = self.attributes.iter().filter(|attribute| attribute.path().is_ident("doc")).peekable();
        if docs.peek().is_some() { quote!(#(#docs)*) } else { quote!(#[doc = #otherwise]) }
    }
}

fn wire_name_of(ident: &Ident, options: &MethodOptions, diagnostics: &mut Diagnostics) -> (String, TokenStream) {
    if let Some(name) = &options.name {
        return (name.value(), name.to_token_stream());
    }
    let name = ident.unraw().to_string();
    if let Some(fault) = wire_name::fault("method name", &name) {
        diagnostics.error(ident, format!("{fault}: set a wire name with `#[rpc(name = \"…\")]`"));
    }
    (name, ident.to_token_stream())
}

/// Reports paths of HTTP with parameters that the method does not have.
fn check_http(options: &MethodOptions, parameters: &[Parameter], sends_items: bool, diagnostics: &mut Diagnostics) {
    let Some(http) = &options.http else { return };
    if sends_items {
        diagnostics.error(http, "methods with a stream as their argument have no path in HTTP");
    }
    let Ok(path) = parse_http(&http.value()) else { return };
    let known = |name: &String| parameters.iter().any(|parameter| parameter.ident.unraw() == name);
    for unknown in path.parameters.iter().filter(|name| !known(name)) {
        diagnostics.error(http, format!("the method has no parameter `{unknown}`"));
    }
}

/// Reports cursors of methods whose streams cannot continue at another provider.
fn check_cursor(parameters: &[Parameter], sends_items: bool, answer: &Answer, diagnostics: &mut Diagnostics) {
    let mut cursors = parameters.iter().filter(|parameter| parameter.is_cursor);
    let Some(cursor) = cursors.next() else { return };
    if answer.kind.stream().is_none() || sends_items {
        let message = "only methods that return a stream and receive none can have a cursor: their streams continue \
                       behind the last item";
        diagnostics.error(&cursor.ident, message);
    }
    for other in cursors {
        diagnostics.error(&other.ident, "a method has at most one cursor");
    }
}

fn check_signature(signature: &Signature, diagnostics: &mut Diagnostics) {
    let name = &signature.ident;
    if CLIENT_NAMES.iter().any(|taken| name == taken) {
        let message = format!(
            "the generated client already has a function `{name}`: \
             rename the method and keep its wire name with `#[rpc(name = \"{name}\")]`"
        );
        diagnostics.error(name, message);
    }
    if let Some(constness) = &signature.constness {
        diagnostics.error(constness, "service methods cannot be `const`");
    }
    if let Safety::Unsafe(unsafety) = &signature.safety {
        diagnostics.error(unsafety, "service methods cannot be `unsafe`");
    }
    if let Some(abi) = &signature.abi {
        diagnostics.error(abi, "service methods cannot have an ABI: remove `extern`");
    }
    if signature.asyncness.is_none() {
        diagnostics.error(signature.fn_token, format!("service methods must be `async`: write `async fn {name}`"));
    }
    if !signature.generics.params.is_empty() {
        let message = "service methods cannot be generic: use concrete types without lifetimes";
        diagnostics.error(&signature.generics, message);
    }
    if let Some(clause) = &signature.generics.where_clause {
        diagnostics.error(clause, "service methods cannot have a `where` clause");
    }
    match signature.receiver() {
        Some(receiver) => parameter::check_receiver(receiver, diagnostics),
        None => {
            diagnostics.error(name, format!("service methods must take `&self`: write `async fn {name}(&self, …)`"))
        }
    }
}
