//! The options in the parentheses of the attributes.

mod http;
mod method;
mod service;

use proc_macro2::TokenStream;
use syn::{Expr, ExprLit, Lit, LitStr, Meta, Token, parse::Parser, punctuated::Punctuated};

pub(crate) use self::{
    http::parse as parse_http,
    method::{MethodOptions, Once},
    service::ServiceOptions,
};
use crate::diagnostics::Diagnostics;

/// Parses `option, option = "value"`, each option at most once.
fn settings(tokens: TokenStream, diagnostics: &mut Diagnostics) -> Vec<Setting> {
    let metas = match Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens) {
        Ok(metas) => metas,
        Err(error) => {
            diagnostics.push(error);
            return Vec::new();
        }
    };
    let mut settings: Vec<Setting> = Vec::new();
    for meta in metas {
        // A path of several segments has no name here, and is reported as an unknown option.
        let option = meta.path().get_ident().map(ToString::to_string).unwrap_or_default();
        if settings.iter().any(|earlier| earlier.option == option && !option.is_empty()) {
            diagnostics.error(&meta, format!("duplicate option `{option}`"));
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
    /// Returns the text of `option = "text"`; the error suggests `example`.
    fn text(&self, example: &str, diagnostics: &mut Diagnostics) -> Option<LitStr> {
        if let Meta::NameValue(pair) = &self.meta
            && let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = ungrouped(&pair.value)
        {
            return Some(text.clone());
        }
        diagnostics
            .error(&self.meta, format!("`{}` needs a string: write `{} = \"{example}\"`", self.option, self.option));
        None
    }

    /// Checks that `option` has no value.
    fn flag(&self, diagnostics: &mut Diagnostics) -> bool {
        let is_flag = matches!(self.meta, Meta::Path(_));
        if !is_flag {
            diagnostics.error(&self.meta, format!("`{}` takes no value", self.option));
        }
        is_flag
    }

    /// Returns the number of `option = number`, which is above 0; the error suggests `example`.
    fn number(&self, example: u32, diagnostics: &mut Diagnostics) -> Option<u32> {
        if let Meta::NameValue(pair) = &self.meta
            && let Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) = ungrouped(&pair.value)
            && let Ok(number @ 1..) = number.base10_parse()
        {
            return Some(number);
        }
        let message = format!("`{}` needs a number above 0: write `{} = {example}`", self.option, self.option);
        diagnostics.error(&self.meta, message);
        None
    }

    fn unknown(&self, known: &str, diagnostics: &mut Diagnostics) {
        diagnostics.error(&self.meta, format!("unknown option, expected one of {known}"));
    }
}

/// Returns the expression without the invisible groups that `macro_rules!` puts around `$name:literal` and `$name:expr`.
fn ungrouped(expression: &Expr) -> &Expr {
    match expression {
        Expr::Group(group) => ungrouped(&group.expr),
        expression => expression,
    }
}
