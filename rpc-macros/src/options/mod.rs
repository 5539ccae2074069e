//! What the attributes say in their parentheses.

mod method;
mod service;

use proc_macro2::TokenStream;
use syn::{Expr, ExprLit, Lit, LitStr, Meta, Token, parse::Parser, punctuated::Punctuated};

pub(crate) use self::{
    method::{MethodOptions, Once},
    service::ServiceOptions,
};
use crate::mistakes::Mistakes;

/// Reads `option, option = "value"`, each option at most once.
fn settings(tokens: TokenStream, mistakes: &mut Mistakes) -> Vec<Setting> {
    let metas = match Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens) {
        Ok(metas) => metas,
        Err(error) => {
            mistakes.add(error);
            return Vec::new();
        }
    };
    let mut settings: Vec<Setting> = Vec::new();
    for meta in metas {
        // A path of several parts is no option, and is told so as one that is not known.
        let option = meta.path().get_ident().map(ToString::to_string).unwrap_or_default();
        if settings.iter().any(|earlier| earlier.option == option && !option.is_empty()) {
            mistakes.at(&meta, format!("`{option}` is given twice: keep one"));
        } else {
            settings.push(Setting { option, meta });
        }
    }
    settings
}

/// One `option` or `option = "value"`.
struct Setting {
    option: String,
    meta: Meta,
}

impl Setting {
    /// The text of `option = "text"`; `example` is one that would do.
    fn text(&self, example: &str, mistakes: &mut Mistakes) -> Option<LitStr> {
        if let Meta::NameValue(pair) = &self.meta
            && let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value
        {
            return Some(text.clone());
        }
        mistakes.at(&self.meta, format!("`{}` takes a text: write `{} = \"{example}\"`", self.option, self.option));
        None
    }

    /// Whether `option` stands alone, as it must.
    fn flag(&self, mistakes: &mut Mistakes) -> bool {
        let alone = matches!(self.meta, Meta::Path(_));
        if !alone {
            mistakes.at(&self.meta, format!("`{}` takes no value: write `{}`", self.option, self.option));
        }
        alone
    }

    fn unknown(&self, known: &str, mistakes: &mut Mistakes) {
        mistakes.at(&self.meta, format!("unknown option; known are {known}"));
    }
}
