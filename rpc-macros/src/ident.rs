//! Identifiers of generated items.

use std::collections::HashSet;

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use syn::ext::IdentExt;

/// Converts `say_hello` to the name of a type, `SayHello`.
pub(crate) fn camel(ident: &Ident) -> Ident {
    let mut name = String::new();
    for word in ident.unraw().to_string().split('_') {
        let mut letters = word.chars();
        name.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        name.extend(letters);
    }
    // `_` would become an empty name, `self_` a keyword.
    if name == "Self" || !name.starts_with(char::is_alphabetic) {
        name.insert(0, '_');
    }
    if name == "_" {
        name.push('_');
    }
    Ident::new(&name, ident.span())
}

/// Converts `HTTPGreeter` to the prefix of a module name, `http_greeter`.
pub(crate) fn snake(ident: &Ident) -> String {
    let letters: Vec<char> = ident.unraw().to_string().chars().collect();
    let mut name = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let after_small = at > 0 && !letters[at - 1].is_uppercase() && letters[at - 1] != '_';
        let before_small =
            at > 0 && letters[at - 1] != '_' && letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (after_small || before_small) {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

/// Creates identifiers that do not occur in the user's code.
///
/// Generated items with these names cannot shadow items of the user.
pub(crate) struct Fresh(HashSet<String>);

impl Fresh {
    /// Collects the identifiers of `tokens`, to avoid them.
    pub(crate) fn new(tokens: TokenStream) -> Self {
        let mut taken = HashSet::new();
        collect(tokens, &mut taken);
        Self(taken)
    }

    /// Returns `wanted`, with `_` appended until it is unique.
    pub(crate) fn ident(&self, wanted: &str) -> Ident {
        let mut name = wanted.to_owned();
        while self.0.contains(&name) {
            name.push('_');
        }
        Ident::new(&name, Span::call_site())
    }
}

fn collect(tokens: TokenStream, taken: &mut HashSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                taken.insert(ident.unraw().to_string());
            }
            TokenTree::Group(group) => collect(group.stream(), taken),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use quote::{format_ident, quote};

    use super::*;

    #[test]
    fn camel_converts_method_names() {
        for (method, name) in [
            ("hello", "Hello"),
            ("say_hello", "SayHello"),
            ("sayHello", "SayHello"),
            ("r#type", "Type"),
            ("self_", "_Self"),
            ("_2fa", "_2fa"),
            ("__", "__"),
        ] {
            let ident: Ident = syn::parse_str(method).unwrap();
            assert_eq!(camel(&ident).to_string(), name);
        }
    }

    #[test]
    fn snake_converts_trait_names() {
        for (name, module) in [
            ("Greeter", "greeter"),
            ("UserStore", "user_store"),
            ("HTTPGreeter", "http_greeter"),
            ("V2Api", "v2_api"),
            ("Old_Style", "old_style"),
        ] {
            assert_eq!(snake(&format_ident!("{name}")), module);
        }
    }

    #[test]
    fn fresh_avoids_identifiers_in_groups() {
        let fresh = Fresh::new(quote!(
            fn f(x: [C; 2], y: C_) {}
        ));
        assert_eq!(fresh.ident("C").to_string(), "C__");
        assert_eq!(fresh.ident("T").to_string(), "T");
    }
}
