//! Which types can travel: what the compiler would say of the others, said at the user's token and with what to write instead.

use syn::{
    Path, Type, TypeImplTrait, TypeInfer, TypeNever, TypePtr, TypeReference,
    visit::{self, Visit},
};

use crate::mistakes::Mistakes;

/// Notes what in `ty` cannot travel.
pub(crate) fn check(ty: &Type, mistakes: &mut Mistakes) {
    Checker { mistakes }.visit_type(ty);
}

/// Whether the type is written `Bytes`, which passes uncopied if it is `bytes::Bytes`.
pub(crate) fn is_bytes(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Bytes" && last.arguments.is_none()))
}

struct Checker<'a> {
    mistakes: &'a mut Mistakes,
}

impl<'ast> Visit<'ast> for Checker<'_> {
    fn visit_type_reference(&mut self, ty: &'ast TypeReference) {
        let owned = match &*ty.elem {
            Type::Path(path) if path.path.is_ident("str") => "`String`".to_owned(),
            Type::Slice(_) => "a `Vec`".to_owned(),
            _ => "an owned type".to_owned(),
        };
        self.mistakes.at(ty, format!("a reference cannot travel to another process: write {owned} instead"));
    }

    fn visit_type_ptr(&mut self, ty: &'ast TypePtr) {
        self.mistakes.at(ty, "a pointer cannot travel to another process: write an owned type instead");
    }

    fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
        self.mistakes.at(ty, "both ends of a contract must know the type: write it instead of `impl Trait`");
    }

    fn visit_type_infer(&mut self, ty: &'ast TypeInfer) {
        self.mistakes.at(ty, "both ends of a contract must know the type: write it instead of `_`");
    }

    fn visit_type_never(&mut self, ty: &'ast TypeNever) {
        self.mistakes.at(ty, "a call ends with an answer: write the type of the answer instead of `!`");
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.segments.first().is_some_and(|first| first.ident == "Self") {
            self.mistakes.at(path, "the client does not know the provider's type: write a type instead of `Self`");
        } else {
            visit::visit_path(self, path);
        }
    }

    fn visit_lifetime(&mut self, lifetime: &'ast syn::Lifetime) {
        self.mistakes.at(lifetime, "what travels borrows nothing: write an owned type, without lifetimes");
    }
}
