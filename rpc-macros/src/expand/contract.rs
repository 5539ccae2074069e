//! The trait itself, with `Send` futures instead of `async fn`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use super::Expansion;
use crate::{contract::Contract, method::Method, parameter::Parameter};

impl Expansion<'_> {
    /// Generates the trait.
    pub(super) fn contract(&self) -> TokenStream {
        let Contract { attributes, visibility, ident, supertraits, methods, .. } = self.contract;
        let supertraits = supertraits.iter();
        let methods = methods.iter().map(declaration);
        quote! {
            #(#attributes)*
            #visibility trait #ident: #(#supertraits +)* ::core::marker::Send + ::core::marker::Sync + 'static {
                #(#methods)*
            }
        }
    }
}

fn declaration(method: &Method) -> TokenStream {
    let Method { attributes, fn_token, ident, parameters, items, .. } = method;
    let output = &method.answer.written;
    let parameters = parameters.iter().chain(items.as_ref().map(|items| &items.parameter)).map(|parameter| {
        let Parameter { attributes, mutability, ident, ty, .. } = parameter;
        quote!(#(#attributes)* #mutability #ident: #ty)
    });
    let body = match &method.body {
        Some(body) => quote!({ async move #body }),
        None => quote!(;),
    };
    let future = quote_spanned! {method.answer.span()=>
        impl ::core::future::Future<Output = #output> + ::core::marker::Send
    };
    quote! {
        #(#attributes)*
        #fn_token #ident(&self, #(#parameters),*) -> #future #body
    }
}
