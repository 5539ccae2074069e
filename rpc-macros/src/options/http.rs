//! [`HttpPath`]: the verb and the path of a method in HTTP, and the statuses of its errors.

use syn::{Expr, ExprLit, Lit, Meta, MetaNameValue, Token, ext::IdentExt as _, punctuated::Punctuated};

use super::ungrouped;
use crate::diagnostics::Diagnostics;

/// The parameters in the path of `GET /orders/{id}`.
pub(crate) struct HttpPath {
    pub(crate) parameters: Vec<String>,
}

/// Parses a verb and a path, such as `GET /orders/{id}`. The error describes the fault.
pub(crate) fn parse(text: &str) -> Result<HttpPath, String> {
    let Some((verb, path)) = text.split_once(' ') else {
        return Err(format!("`{text}` needs a verb and a path: write `http = \"GET /orders/{{id}}\"`"));
    };
    if !VERBS.contains(&verb) {
        return Err(format!("unknown verb `{verb}`, expected one of {}", VERBS.join(", ")));
    }
    let Some(path) = path.strip_prefix('/') else {
        return Err(format!("the path `{path}` must begin with `/`"));
    };
    let mut parameters: Vec<String> = Vec::new();
    for segment in path.split('/').filter(|segment| !path.is_empty() || !segment.is_empty()) {
        let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        match name {
            Some(name) if parameters.iter().any(|earlier| earlier == name) => {
                return Err(format!("the path has the parameter `{name}` twice"));
            }
            Some(name) => parameters.push(name.to_owned()),
            None if segment.is_empty() || !segment.bytes().all(is_literal) => {
                return Err(format!(
                    "the segment `{segment}` of the path must be a parameter such as `{{id}}`, or consist of letters, digits, `.`, `_`, `~` and `-`"
                ));
            }
            None => {}
        }
    }
    Ok(HttpPath { parameters })
}

fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-')
}

/// Parses `status(NotFound = 404, Closed = 409)`.
pub(super) fn statuses(meta: &Meta, diagnostics: &mut Diagnostics) -> Vec<(String, u16)> {
    let parsed = match meta {
        Meta::List(list) => list.parse_args_with(Punctuated::<MetaNameValue, Token![,]>::parse_terminated),
        _ => Err(syn::Error::new_spanned(meta, "`status` needs variants: write `status(NotFound = 404)`")),
    };
    let pairs = match parsed {
        Ok(pairs) => pairs,
        Err(error) => {
            diagnostics.push(error);
            return Vec::new();
        }
    };
    let mut statuses: Vec<(String, u16)> = Vec::new();
    for MetaNameValue { path, value, .. } in pairs {
        let number = match ungrouped(&value) {
            Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse::<u16>().ok(),
            _ => None,
        };
        match (path.get_ident().map(|ident| ident.unraw().to_string()), number) {
            (Some(name), Some(status)) if CLIENT_ERRORS.contains(&status) && !RESERVED.contains(&status) => {
                if statuses.iter().any(|(earlier, _)| *earlier == name) {
                    diagnostics.error(&path, format!("the variant `{name}` has a status already"));
                } else {
                    statuses.push((name, status));
                }
            }
            _ => diagnostics.error(&path, STATUS_FAULT),
        }
    }
    statuses
}

const VERBS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
/// The statuses of errors of the caller.
const CLIENT_ERRORS: std::ops::RangeInclusive<u16> = 400..=499;
/// The statuses with which a caller repeats a request, or presents other credentials.
const RESERVED: [u16; 4] = [401, 407, 408, 429];
const STATUS_FAULT: &str = "a variant needs a status of 400 to 499, except 401, 407, 408 and 429, which have a meaning of \
                            their own: write `status(NotFound = 404)`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_consist_of_literals_and_parameters() {
        let parameters = |text: &str| parse(text).map(|path| path.parameters);
        assert_eq!(parameters("GET /").unwrap(), [""; 0]);
        assert_eq!(parameters("GET /orders/{id}/items/{item}").unwrap(), ["id", "item"]);
        for bad in
            ["", "GET", "get /a", "GET a", "GET /a//b", "GET /a/", "GET /{a}/{a}", "GET /a b", "GET /a{b}", "GET /a?b"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
