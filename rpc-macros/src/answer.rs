//! [`Answer`]: the return type of a method.

use proc_macro2::Span;
use syn::{ReturnType, Signature, Type, parse_quote_spanned, spanned::Spanned};

use crate::{diagnostics::Diagnostics, wire_type};

/// The parsed and checked return type of a method.
pub(crate) struct Answer {
    /// The return type as written.
    pub(crate) written: Type,
    pub(crate) kind: AnswerKind,
    /// Whether the result type is written as `Bytes`.
    pub(crate) is_bytes: bool,
}

/// The outcomes of a call.
pub(crate) enum AnswerKind {
    /// The server sends no response.
    Nothing,
    /// A result; only the framework reports errors.
    Plain,
    /// A result `T`, or an error `E` of the service.
    Fallible(Box<[Type; 2]>),
    /// A stream.
    Stream(Box<StreamTypes>),
    /// A stream, whose type is the first one, or an error `E` of the service instead of it.
    FallibleStream(Box<([Type; 2], StreamTypes)>),
}

/// The type arguments of a stream.
pub(crate) struct StreamTypes {
    pub(crate) item: Type,
    /// The error, if it is written.
    pub(crate) error: Option<Type>,
}

impl AnswerKind {
    /// Returns the type arguments of the stream, if the result is one.
    pub(crate) fn stream(&self) -> Option<&StreamTypes> {
        match self {
            Self::Stream(types) => Some(types),
            Self::FallibleStream(types) => Some(&types.1),
            _ => None,
        }
    }
}

impl Answer {
    /// Parses a return type.
    ///
    /// A macro sees no types, so it recognizes a `Result` by its name and its two type arguments.
    pub(crate) fn parse(signature: &Signature, one_way: bool, diagnostics: &mut Diagnostics) -> Self {
        let written = match &signature.output {
            ReturnType::Default => parse_quote_spanned!(signature.ident.span()=> ()),
            ReturnType::Type(_, ty) => wire_type::bare(ty).clone(),
        };
        if one_way {
            if !matches!(&written, Type::Tuple(tuple) if tuple.elems.is_empty()) {
                diagnostics
                    .error(&written, "one-way methods cannot return a value: remove the return type or `one_way`");
            }
            return Self { written, kind: AnswerKind::Nothing, is_bytes: false };
        }
        if let Some(arguments) = wire_type::stream_arguments(&written) {
            arguments.iter().for_each(|argument| wire_type::check(argument, diagnostics));
            let kind = AnswerKind::Stream(Box::new(StreamTypes::new(arguments)));
            return Self { written, kind, is_bytes: false };
        }
        if let Some([value, error]) = result_arguments(&written).as_deref()
            && let Some(arguments) = wire_type::stream_arguments(value)
        {
            arguments.iter().chain([error]).for_each(|argument| wire_type::check(argument, diagnostics));
            let types = ([value.clone(), error.clone()], StreamTypes::new(arguments));
            let kind = AnswerKind::FallibleStream(Box::new(types));
            return Self { written, kind, is_bytes: false };
        }
        wire_type::check(&written, diagnostics);
        let kind = match result_arguments(&written).as_deref() {
            Some([value, error]) => AnswerKind::Fallible(Box::new([value.clone(), error.clone()])),
            Some([_]) => {
                let message = "the client must know the error type, which this alias hides: \
                               write `Result<T, E>` with both types";
                diagnostics.error(&written, message);
                AnswerKind::Plain
            }
            _ => AnswerKind::Plain,
        };
        let value = match &kind {
            AnswerKind::Fallible(types) => &types[0],
            _ => &written,
        };
        let is_bytes = wire_type::is_bytes(value);
        Self { written, kind, is_bytes }
    }

    /// Returns the span for generated code.
    ///
    /// The compiler then reports errors about the type at the return type.
    pub(crate) fn span(&self) -> Span {
        Span::call_site().located_at(self.written.span())
    }
}

impl StreamTypes {
    fn new(mut arguments: Vec<Type>) -> Self {
        let error = if arguments.len() > 1 { arguments.pop() } else { None };
        Self { item: arguments.swap_remove(0), error }
    }
}

/// Returns the type arguments of a path that ends in `Result`.
fn result_arguments(ty: &Type) -> Option<Vec<Type>> {
    wire_type::arguments_of("Result", ty)
}
