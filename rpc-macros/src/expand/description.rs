//! The description of the contract, which the tracer of rpc-core makes.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Expr, ExprLit, Lit, Meta};

use super::Expansion;
use crate::{answer::AnswerKind, method::Method};

impl Expansion<'_> {
    /// Generates the cell with the description of the contract.
    pub(super) fn description(&self) -> TokenStream {
        let core = &self.contract.options.core;
        let (service_id, described) = (&self.names.service_id, &self.names.described);
        let docs = docs(&self.contract.attributes);
        let methods = self.contract.methods.iter().enumerate().map(|(number, method)| {
            let parts = self.parts(method);
            let (methods, docs) = (&self.names.methods, self::docs(&method.attributes));
            quote! {{
                let mut method = builder.method(#methods[#number].outline(#docs));
                #parts
            }}
        });
        quote! {
            static #described: #core::__private::ContractCell = {
                fn describe(builder: &mut #core::__private::ContractBuilder) {
                    let _ = &builder;
                    #(#methods)*
                }
                #core::__private::ContractCell::new(&#service_id, #docs, describe)
            };
        }
    }

    /// Generates the description of the types of a method.
    fn parts(&self, method: &Method) -> TokenStream {
        let (core, arguments) = (&self.contract.options.core, self.arguments(method));
        let error_of = |error| quote!(<#error as #core::MethodError>::describe(&mut method.error()););
        let caller_items = method.items.as_ref().map(|items| {
            let item = &items.item;
            quote!(method.caller_items::<#item>();)
        });
        let answer = match &method.answer.kind {
            AnswerKind::Nothing | AnswerKind::Stream(_) => quote!(),
            AnswerKind::Plain => {
                let value = &method.answer.written;
                quote!(method.result::<#value>();)
            }
            AnswerKind::Fallible(types) => {
                let [value, error] = &**types;
                let error = error_of(error);
                quote!(method.result::<#value>(); #error)
            }
            AnswerKind::FallibleStream(types) => error_of(&types.0[1]),
        };
        let items = method.answer.kind.stream().map(|types| {
            let item = &types.item;
            let error = types
                .error
                .as_ref()
                .map(|error| quote!(<#error as #core::MethodError>::describe(&mut method.items_error());));
            quote!(method.items::<#item>(); #error)
        });
        quote!(method.arguments::<#arguments>(); #caller_items #answer #items)
    }

    /// Generates the function that returns the description.
    pub(super) fn contract_function(&self) -> TokenStream {
        let (core, described) = (&self.contract.options.core, &self.names.described);
        quote! {
            /// Returns the description of the contract, as a value that can be written as JSON.
            ///
            /// The first use traces the types of the contract, which takes a few milliseconds.
            pub fn contract() -> &'static #core::descriptor::Contract {
                #described.contract()
            }
        }
    }
}

/// Returns the text of the doc comments, without the space that begins each line.
fn docs(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter(|attribute| attribute.path().is_ident("doc")).filter_map(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else { return None };
        let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value else { return None };
        let text = text.value();
        Some(text.strip_prefix(' ').unwrap_or(&text).trim_end().to_owned())
    });
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use syn::{ItemTrait, parse_quote};

    use super::*;

    #[test]
    fn docs_are_the_lines_of_the_comment() {
        let item: ItemTrait = parse_quote! {
            /// Greets.
            ///
            /// - in Swedish
            #[deprecated]
            #[doc = concat!("not", "a literal")]
            trait Greeter {}
        };
        assert_eq!(docs(&item.attrs), "Greets.\n\n- in Swedish");
    }
}
