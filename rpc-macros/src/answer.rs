//! [`Answer`]: what a method gives back.

use proc_macro2::Span;
use syn::{GenericArgument, PathArguments, ReturnType, Signature, Type, parse_quote_spanned, spanned::Spanned};

use crate::{mistakes::Mistakes, travel};

/// What a method gives back.
pub(crate) struct Answer {
    /// The return type as it is written.
    pub(crate) written: Type,
    /// What it means for the call.
    pub(crate) kind: AnswerKind,
    /// Whether its value is written `Bytes`.
    pub(crate) is_bytes: bool,
}

/// How a call can end.
pub(crate) enum AnswerKind {
    /// No response is sent.
    Nothing,
    /// With a value; the call fails for the framework's reasons only.
    Plain,
    /// With the `T` or the `E` of a `Result<T, E>`.
    Fallible(Box<[Type; 2]>),
}

impl Answer {
    /// Reads a return type. What is a `Result` is seen by its name and its two arguments, as a macro sees no types.
    pub(crate) fn parse(signature: &Signature, one_way: bool, mistakes: &mut Mistakes) -> Self {
        let written = match &signature.output {
            ReturnType::Default => parse_quote_spanned!(signature.ident.span()=> ()),
            ReturnType::Type(_, ty) => bare(ty).clone(),
        };
        if one_way {
            if !matches!(&written, Type::Tuple(tuple) if tuple.elems.is_empty()) {
                mistakes.at(&written, "a one-way call has no answer: drop the return type, or `one_way`");
            }
            return Self { written, kind: AnswerKind::Nothing, is_bytes: false };
        }
        travel::check(&written, mistakes);
        let kind = match result_arguments(&written).as_deref() {
            Some([value, error]) => AnswerKind::Fallible(Box::new([value.clone(), error.clone()])),
            Some([_]) => {
                let message = "the client must know the error's type, which this alias hides: \
                               write `Result<T, E>` with both types";
                mistakes.at(&written, message);
                AnswerKind::Plain
            }
            _ => AnswerKind::Plain,
        };
        let value = match &kind {
            AnswerKind::Fallible(types) => &types[0],
            _ => &written,
        };
        let is_bytes = travel::is_bytes(value);
        Self { written, kind, is_bytes }
    }

    /// For code in which the compiler may find the type at fault, so that it says so there.
    pub(crate) fn span(&self) -> Span {
        Span::call_site().located_at(self.written.span())
    }
}

/// The type without parentheses and the invisible groups that macros leave.
fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Paren(inner) => bare(&inner.elem),
        Type::Group(inner) => bare(&inner.elem),
        ty => ty,
    }
}

/// The type arguments, if the path ends in `Result`.
fn result_arguments(ty: &Type) -> Option<Vec<Type>> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Result")?;
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
