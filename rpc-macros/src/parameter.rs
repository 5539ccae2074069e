//! [`Parameter`]: a parsed and checked parameter of a method.

use syn::{Attribute, FnArg, Ident, Meta, Pat, PatType, Receiver, ReceiverKind, Token, Type};

use crate::{diagnostics::Diagnostics, wire_type};

/// A parsed and checked parameter, other than `&self`.
pub(crate) struct Parameter {
    /// The attributes, such as lint levels.
    pub(crate) attributes: Vec<Attribute>,
    /// `mut`; only methods with a default body may have it.
    pub(crate) mutability: Option<Token![mut]>,
    /// The name, also on the wire.
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
    /// Whether the parameter carries the cursor of a stream: `#[rpc(cursor)]`.
    pub(crate) is_cursor: bool,
}

impl Parameter {
    /// Parses a parameter; `None` if it has no name.
    pub(crate) fn parse(argument: &PatType, has_body: bool, diagnostics: &mut Diagnostics) -> Option<Self> {
        wire_type::check(&argument.ty, diagnostics);
        Self::named(argument, has_body, diagnostics)
    }

    fn named(argument: &PatType, has_body: bool, diagnostics: &mut Diagnostics) -> Option<Self> {
        let mut attributes = argument.attrs.clone();
        let is_cursor = take_cursor(&mut attributes, &argument.ty, diagnostics);
        for attribute in &attributes {
            if attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr") {
                diagnostics.error(attribute, "parameters of service methods cannot be conditional: remove the `cfg`");
            }
        }
        match &*argument.pat {
            Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => {
                if let (Some(mutability), false) = (&name.mutability, has_body) {
                    diagnostics.error(
                        mutability,
                        "parameters of methods without a body cannot be `mut`: write `mut` in the impl",
                    );
                }
                Some(Self {
                    attributes,
                    mutability: name.mutability,
                    ident: name.ident.clone(),
                    ty: (*argument.ty).clone(),
                    is_cursor,
                })
            }
            pattern => {
                let message = "parameters of service methods need a name, which is their name on the wire: \
                               replace the pattern by a name";
                diagnostics.error(pattern, message);
                None
            }
        }
    }
}

/// Removes `#[rpc(cursor)]` from the attributes of a parameter. Returns whether it was there.
fn take_cursor(attributes: &mut Vec<Attribute>, ty: &Type, diagnostics: &mut Diagnostics) -> bool {
    let found: Vec<_> = attributes.extract_if(.., |attribute| attribute.path().is_ident("rpc")).collect();
    for attribute in &found {
        let is_cursor = matches!(&attribute.meta, Meta::List(list) if list.tokens.to_string() == "cursor");
        if !is_cursor {
            diagnostics.error(attribute, "unknown option of a parameter, expected `#[rpc(cursor)]`");
        } else if wire_type::arguments_of("Option", wire_type::bare(ty)).is_none() {
            let message = "a cursor is an `Option`, which is `None` at the start of the stream";
            diagnostics.error(ty, message);
        }
    }
    !found.is_empty()
}

/// A parsed and checked parameter that is a stream.
pub(crate) struct ItemsParameter {
    pub(crate) parameter: Parameter,
    /// The type of the items.
    pub(crate) item: Type,
}

impl ItemsParameter {
    /// Parses a parameter whose type is a `Streaming`; `None` if it has no name.
    pub(crate) fn parse(argument: &PatType, has_body: bool, diagnostics: &mut Diagnostics) -> Option<Self> {
        let mut arguments = wire_type::stream_arguments(&argument.ty)?;
        arguments.iter().for_each(|argument| wire_type::check(argument, diagnostics));
        if arguments.len() > 1 {
            let message = "a stream of the caller has no error type, because a caller that fails cancels the call: \
                           write `Streaming<T>`";
            diagnostics.error(&argument.ty, message);
        }
        let parameter = Parameter::named(argument, has_body, diagnostics)?;
        Some(Self { parameter, item: arguments.swap_remove(0) })
    }
}

/// Reports a receiver other than `&self`.
pub(crate) fn check_receiver(receiver: &Receiver, diagnostics: &mut Diagnostics) {
    if !matches!(receiver.kind, ReceiverKind::Reference(_, None, None)) {
        let message = "service methods must take `&self`, because calls share the service: \
                       keep mutable state behind a lock or a channel";
        diagnostics.error(receiver, message);
    }
}

/// Returns the parameters other than `&self`.
pub(crate) fn typed<'a>(inputs: impl IntoIterator<Item = &'a FnArg>) -> impl Iterator<Item = &'a PatType> {
    inputs.into_iter().filter_map(|argument| match argument {
        FnArg::Typed(argument) => Some(argument),
        FnArg::Receiver(_) => None,
    })
}
