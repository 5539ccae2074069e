//! [`Diagnostics`]: the compile errors of a contract, reported all at once.

use std::fmt::Display;

use proc_macro2::TokenStream;
use quote::ToTokens;

/// The compile errors found so far.
#[derive(Default)]
pub(crate) struct Diagnostics(Option<syn::Error>);

impl Diagnostics {
    /// Adds an error at `tokens`. The message names the correction.
    pub(crate) fn error(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.push(syn::Error::new_spanned(tokens, message));
    }

    /// Adds an error of syn.
    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            none => *none = Some(error),
        }
    }

    /// Returns whether there are no errors.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the tokens of all errors, followed by `item`, so that the compiler still resolves its name.
    pub(crate) fn into_tokens_with(self, item: impl ToTokens) -> TokenStream {
        let mut tokens = self.0.map(syn::Error::into_compile_error).unwrap_or_default();
        item.to_tokens(&mut tokens);
        tokens
    }
}
