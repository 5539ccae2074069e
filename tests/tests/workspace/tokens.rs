//! Rust as trees of tokens: parsed, and freed of what is compiled for tests only.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{Meta, Token, parse::Parser, punctuated::Punctuated};

/// A file's items without those that are compiled for tests only.
pub(crate) fn parse(text: &str, name: &str) -> syn::File {
    let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
    syn::parse2(without_tests(tokens)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The tokens without items, members and statements whose `cfg` holds in tests only.
pub(crate) fn without_tests(tokens: TokenStream) -> TokenStream {
    let trees: Vec<_> = tokens.into_iter().collect();
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < trees.len() {
        if is_test_attribute(&trees[at..]) {
            // Attributes before this one belong to the same item.
            while kept.len() >= 2 && is_attribute(&kept[kept.len() - 2..]) {
                kept.truncate(kept.len() - 2);
            }
            at += item_len(&trees[at..]);
            continue;
        }
        kept.push(match &trees[at] {
            TokenTree::Group(group) => {
                let mut inner = proc_macro2::Group::new(group.delimiter(), without_tests(group.stream()));
                inner.set_span(group.span());
                inner.into()
            }
            other => other.clone(),
        });
        at += 1;
    }
    kept.into_iter().collect()
}

fn is_attribute(trees: &[TokenTree]) -> bool {
    matches!(trees, [TokenTree::Punct(sign), TokenTree::Group(group), ..]
        if sign.as_char() == '#' && group.delimiter() == Delimiter::Bracket)
}

fn is_test_attribute(trees: &[TokenTree]) -> bool {
    let [TokenTree::Punct(sign), TokenTree::Group(group), ..] = trees else { return false };
    sign.as_char() == '#' && syn::parse2::<Meta>(group.stream()).is_ok_and(|meta| is_test_cfg(&meta))
}

/// Whether this is `cfg(…)` with a condition that only tests meet.
pub(crate) fn is_test_cfg(meta: &Meta) -> bool {
    let Meta::List(list) = meta else { return false };
    list.path.is_ident("cfg") && nested(meta).iter().any(needs_test)
}

fn needs_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => nested(condition).iter().any(needs_test),
        Meta::List(list) if list.path.is_ident("any") => nested(condition).iter().all(needs_test),
        _ => false,
    }
}

fn nested(meta: &Meta) -> Vec<Meta> {
    let Meta::List(list) = meta else { return Vec::new() };
    let parser = Punctuated::<Meta, Token![,]>::parse_terminated;
    parser.parse2(list.tokens.clone()).map(|metas| metas.into_iter().collect()).unwrap_or_default()
}

/// The number of token trees of the item, member or statement that begins here, its attributes included.
fn item_len(trees: &[TokenTree]) -> usize {
    let mut at = 0;
    while is_attribute(&trees[at..]) {
        at += 2;
    }
    let keyword = trees[at..].iter().find_map(|tree| match tree {
        TokenTree::Ident(ident) if ident != "pub" => Some(ident.to_string()),
        _ => None,
    });
    let ends_with_semicolon = matches!(keyword.as_deref(), Some("use" | "static" | "let" | "type"))
        || keyword.as_deref() == Some("const") && !trees[at..].iter().take(4).any(|tree| tree.to_string() == "fn");
    let (mut angles, mut before) = (0_i32, ' ');
    while let Some(tree) = trees.get(at) {
        at += 1;
        let mut sign = ' ';
        match tree {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && !ends_with_semicolon => return at,
            TokenTree::Punct(punct) => {
                sign = punct.as_char();
                match sign {
                    ';' => return at,
                    ',' if angles == 0 && !ends_with_semicolon => return at,
                    '<' => angles += 1,
                    '>' if before != '-' && before != '=' => angles -= 1,
                    _ => {}
                }
            }
            _ => {}
        }
        before = sign;
    }
    at
}

#[test]
fn test_code_is_removed_and_other_code_stays() {
    let text = "
        #[derive(Debug)] struct A { #[cfg(test)] b: Vec<(u8, u8)>, c: u8 }
        #[cfg(test)] use a::{b, c};
        #[allow(x)] #[cfg(all(test, shuttle))] mod tests { fn d() {} }
        #[cfg(test)] mod elsewhere;
        #[cfg(any(test, feature = \"f\"))] fn kept() { #[cfg(test)] let x = A { y }; z(); }
        #[cfg(not(test))] impl A { #[cfg(test)] const fn e<T, U>() -> Vec<T> { f } }
        #[cfg(test)] const G: u8 = { 1 };
        mod last;";
    let expected = "
        #[derive(Debug)] struct A { c: u8 }
        #[cfg(any(test, feature = \"f\"))] fn kept() { z(); }
        #[cfg(not(test))] impl A { }
        mod last;";
    let tokens = |text: &str| text.parse::<TokenStream>().unwrap();
    assert_eq!(without_tests(tokens(text)).to_string(), tokens(expected).to_string());
}
