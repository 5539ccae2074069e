//! Types that cannot be sent to another process.
//!
//! The compiler would report them in the generated code; this module reports them at the user's token, with the type to
//! use instead.

use syn::{
    GenericArgument, Path, PathArguments, Type, TypeImplTrait, TypeInfer, TypeNever, TypePtr, TypeReference,
    visit::{self, Visit},
};

use crate::diagnostics::Diagnostics;

/// Reports every part of `ty` that cannot be sent to another process.
pub(crate) fn check(ty: &Type, diagnostics: &mut Diagnostics) {
    Checker { diagnostics }.visit_type(ty);
}

/// Returns whether the type is written as `Bytes`. A `bytes::Bytes` is encoded without copying.
pub(crate) fn is_bytes(ty: &Type) -> bool {
    matches!(bare(ty), Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Bytes" && last.arguments.is_none()))
}

/// Returns the type arguments of a `Streaming`: the type of its items, and that of its error if it is written.
pub(crate) fn stream_arguments(ty: &Type) -> Option<Vec<Type>> {
    arguments_of(STREAM, bare(ty)).filter(|arguments| matches!(arguments.len(), 1 | 2))
}

/// Returns the type arguments of a path that ends in `name`.
pub(crate) fn arguments_of(name: &str, ty: &Type) -> Option<Vec<Type>> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    arguments
        .args
        .iter()
        .map(|argument| match argument {
            GenericArgument::Type(ty) => Some(ty.clone()),
            _ => None,
        })
        .collect()
}

/// The name by which a macro recognizes a stream.
const STREAM: &str = "Streaming";

/// Returns the type without parentheses and without the invisible groups of macros.
pub(crate) fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Paren(inner) => bare(&inner.elem),
        Type::Group(inner) => bare(&inner.elem),
        ty => ty,
    }
}

struct Checker<'a> {
    diagnostics: &'a mut Diagnostics,
}

impl<'ast> Visit<'ast> for Checker<'_> {
    fn visit_type_reference(&mut self, ty: &'ast TypeReference) {
        let owned = match &*ty.elem {
            Type::Path(path) if path.path.is_ident("str") => "`String`".to_owned(),
            Type::Slice(_) => "a `Vec`".to_owned(),
            _ => "an owned type".to_owned(),
        };
        self.diagnostics.error(ty, format!("references cannot be sent to another process: use {owned}"));
    }

    fn visit_type_ptr(&mut self, ty: &'ast TypePtr) {
        self.diagnostics.error(ty, "pointers cannot be sent to another process: use an owned type");
    }

    fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
        self.diagnostics.error(ty, "client and server must know the concrete type: replace `impl Trait`");
    }

    fn visit_type_infer(&mut self, ty: &'ast TypeInfer) {
        self.diagnostics.error(ty, "client and server must know the concrete type: replace `_`");
    }

    fn visit_type_never(&mut self, ty: &'ast TypeNever) {
        self.diagnostics.error(ty, "service methods must return: replace `!` by the type of the result");
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.segments.first().is_some_and(|first| first.ident == "Self") {
            self.diagnostics
                .error(path, "the client does not know the type of the provider: replace `Self` by a concrete type");
        } else if path.segments.last().is_some_and(|last| last.ident == STREAM) {
            let message = "a stream must be the last parameter, the whole result, or the `T` of a `Result<T, E>`";
            self.diagnostics.error(path, message);
        } else {
            visit::visit_path(self, path);
        }
    }

    fn visit_lifetime(&mut self, lifetime: &'ast syn::Lifetime) {
        self.diagnostics
            .error(lifetime, "borrowed data cannot be sent to another process: use an owned type without lifetimes");
    }
}

#[cfg(test)]
mod tests {
    use proc_macro2::{Delimiter, Group, TokenTree};
    use quote::quote;
    use syn::parse_quote;

    use super::*;

    #[test]
    fn is_bytes_ignores_the_groups_of_macros() {
        let group = TokenTree::Group(Group::new(Delimiter::None, quote!(bytes::Bytes)));
        assert!(is_bytes(&parse_quote!(#group)) && is_bytes(&parse_quote!((Bytes))));
        assert!(!is_bytes(&parse_quote!(Vec<Bytes>)));
    }
}
