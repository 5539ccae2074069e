//! The types of the methods, for programs that must name the type of a call.

use proc_macro2::TokenStream;
use quote::quote;
use syn::Visibility;

use super::Expansion;

impl Expansion<'_> {
    /// Generates the module with a type for each method.
    pub(super) fn markers(&self) -> TokenStream {
        let (visibility, module) = (&self.contract.visibility, &self.names.module);
        let inner = one_deeper(visibility);
        let (name, client) = (&self.contract.ident, &self.names.client);
        let about = format!(
            "The types of the methods of [`{name}`](super::{name}), for the calls of a [`{client}`](super::{client})."
        );
        let markers = self.contract.methods.iter().map(|method| {
            let (method, marker) = (&method.ident, &method.marker);
            let about = format!("The type of [`{name}::{method}`](super::{name}::{method}).");
            quote! {
                #[doc = #about]
                #[derive(::core::fmt::Debug)]
                #inner enum #marker {}
            }
        });
        quote! {
            #[doc = #about]
            #[allow(dead_code, non_camel_case_types)]
            #visibility mod #module {
                #(#markers)*
            }
        }
    }
}

/// Returns the same visibility, as written in a child module.
fn one_deeper(visibility: &Visibility) -> TokenStream {
    let restricted = match visibility {
        Visibility::Public(_) => return quote!(pub),
        Visibility::Inherited => return quote!(pub(super)),
        Visibility::Restricted(restricted) => restricted,
    };
    let path = &restricted.path;
    match path.segments.first().map(|first| first.ident.to_string()).as_deref() {
        Some("self") if path.segments.len() == 1 => quote!(pub(super)),
        Some("self") => {
            let rest = path.segments.iter().skip(1);
            quote!(pub(in super #(::#rest)*))
        }
        Some("super") => quote!(pub(in super::#path)),
        _ => quote!(#visibility),
    }
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn one_deeper_keeps_the_reach_of_a_visibility() {
        let cases: [(Visibility, TokenStream); 7] = [
            (parse_quote!(pub), quote!(pub)),
            (Visibility::Inherited, quote!(pub(super))),
            (parse_quote!(pub(self)), quote!(pub(super))),
            (parse_quote!(pub(crate)), quote!(pub(crate))),
            (parse_quote!(pub(in crate::a)), quote!(pub(in crate::a))),
            (parse_quote!(pub(super)), quote!(pub(in super::super))),
            (parse_quote!(pub(in super::super)), quote!(pub(in super::super::super))),
        ];
        for (outside, inside) in cases {
            assert_eq!(one_deeper(&outside).to_string(), inside.to_string());
        }
    }
}
