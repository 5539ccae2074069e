//! [`Parameter`]: one thing that a method is given.

use syn::{Attribute, FnArg, Ident, Pat, PatType, Receiver, ReceiverKind, Token, Type};

use crate::{mistakes::Mistakes, travel};

/// One parameter besides `&self`.
pub(crate) struct Parameter {
    /// Lints for the trait's method.
    pub(crate) attributes: Vec<Attribute>,
    /// In a method with a body only.
    pub(crate) mutability: Option<Token![mut]>,
    /// The name, under which the value travels.
    pub(crate) ident: Ident,
    /// The value's type.
    pub(crate) ty: Type,
}

impl Parameter {
    /// Reads a parameter of a method, which may have a body; `None` when it has no name.
    pub(crate) fn parse(argument: &PatType, has_body: bool, mistakes: &mut Mistakes) -> Option<Self> {
        travel::check(&argument.ty, mistakes);
        for attribute in &argument.attrs {
            if attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr") {
                mistakes.at(attribute, "both ends of a contract have the same parameters: drop the condition");
            }
        }
        match &*argument.pat {
            Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => {
                if let (Some(mutability), false) = (&name.mutability, has_body) {
                    mistakes.at(mutability, "the trait only names the parameter: write `mut` in the impl");
                }
                Some(Self {
                    attributes: argument.attrs.clone(),
                    mutability: name.mutability,
                    ident: name.ident.clone(),
                    ty: (*argument.ty).clone(),
                })
            }
            pattern => {
                mistakes.at(pattern, "a parameter travels under its name: write a name instead of a pattern");
                None
            }
        }
    }
}

/// Notes what is wrong with the receiver, unless it is `&self`.
pub(crate) fn check_receiver(receiver: &Receiver, mistakes: &mut Mistakes) {
    if !matches!(receiver.kind, ReceiverKind::Reference(_, None, None)) {
        mistakes
            .at(receiver, "calls share the service: write `&self`, and keep what changes behind a lock or a channel");
    }
}

/// The parameters besides `&self`.
pub(crate) fn typed<'a>(inputs: impl IntoIterator<Item = &'a FnArg>) -> impl Iterator<Item = &'a PatType> {
    inputs.into_iter().filter_map(|argument| match argument {
        FnArg::Typed(argument) => Some(argument),
        FnArg::Receiver(_) => None,
    })
}
