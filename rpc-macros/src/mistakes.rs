//! [`Mistakes`]: what is wrong with a contract, told all at once.

use std::fmt::Display;

use proc_macro2::TokenStream;
use quote::ToTokens;

/// The mistakes found so far.
#[derive(Default)]
pub(crate) struct Mistakes(Option<syn::Error>);

impl Mistakes {
    /// Notes a mistake at `tokens`. The message says what to write instead.
    pub(crate) fn at(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.add(syn::Error::new_spanned(tokens, message));
    }

    /// Notes what syn found.
    pub(crate) fn add(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            none => *none = Some(error),
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The mistakes as the compiler's errors, and the item, so that nothing else becomes unknown by them.
    pub(crate) fn and(self, item: impl ToTokens) -> TokenStream {
        let mut tokens = self.0.map(syn::Error::into_compile_error).unwrap_or_default();
        item.to_tokens(&mut tokens);
        tokens
    }
}
