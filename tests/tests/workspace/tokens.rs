//! Parses and renders Rust code as token trees, without the items that are compiled for tests only.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use syn::{Meta, Token, parse::Parser, punctuated::Punctuated};

/// Parses a file, without the items that are compiled for tests only.
pub(crate) fn parse(text: &str, name: &str) -> syn::File {
    let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
    syn::parse2(without_tests(tokens)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Removes items, members and statements with a `cfg` that is true in tests only.
pub(crate) fn without_tests(tokens: TokenStream) -> TokenStream {
    let trees: Vec<_> = tokens.into_iter().collect();
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < trees.len() {
        if is_test_attribute(&trees[at..]) {
            // Earlier attributes belong to the same item.
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

/// Returns whether this is a `cfg(…)` whose condition is true in tests only.
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

/// Returns the number of token trees of the item, member or statement at the start, including its attributes.
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

/// Renders tokens on one line, with the white space of rustfmt.
pub(crate) fn render(tokens: TokenStream) -> String {
    let mut words = Vec::new();
    flatten(tokens, &mut words);
    let mut text = String::new();
    for (at, word) in words.iter().enumerate() {
        if at > 0 && is_spaced(&words[at - 1], word) {
            text.push(' ');
        }
        text += word;
    }
    text
}

fn flatten(tokens: TokenStream, words: &mut Vec<String>) {
    let mut trees = tokens.into_iter().peekable();
    let mut joins = false;
    while let Some(tree) = trees.next() {
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                let inner: Vec<_> = group.stream().into_iter().collect();
                let commas = inner.iter().filter(|tree| tree.to_string() == ",").count();
                let is_list = commas > 1 || inner.iter().any(|tree| tree.to_string() == ":");
                let ends_with_comma = inner.last().is_some_and(|tree| tree.to_string() == ",");
                let kept = inner.len() - usize::from(is_list && ends_with_comma);
                words.push(open.to_owned());
                flatten(inner.into_iter().take(kept).collect(), words);
                words.push(close.to_owned());
                joins = false;
            }
            TokenTree::Punct(punct) => {
                let sign = punct.as_char();
                // Join `->`, `::`, `=>`, `..` and lifetimes, but not `>>`, which closes two lists.
                match words.last_mut() {
                    Some(last) if joins && sign != '<' && (sign != '>' || last != ">") => last.push(sign),
                    _ => words.push(sign.to_string()),
                }
                joins = punct.spacing() == Spacing::Joint && sign != '<' && sign != '&';
                // Remove a trailing comma of a generic list.
                if sign == ',' && matches!(trees.peek(), Some(TokenTree::Punct(next)) if next.as_char() == '>') {
                    words.pop();
                }
            }
            other => {
                match words.last_mut() {
                    Some(last) if last == "'" => *last += &other.to_string(),
                    _ => words.push(other.to_string()),
                }
                joins = false;
            }
        }
    }
    words.retain(|word| !word.is_empty());
}

fn is_spaced(before: &str, after: &str) -> bool {
    let is_word = |word: &str| word.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '\'' || c == '"');
    match (before, after) {
        ("(" | "[" | "<" | "::" | "&" | "." | "!" | "#" | "?" | "*" | "..", _) => false,
        ("{", "}") => false,
        (_, ")" | "]" | ">" | "," | ";" | ":" | "::" | "." | "<" | "..") => false,
        (_, "!") => false,
        (">", "(") => false,
        (before, "(" | "[") if is_word(before) => {
            ["in", "dyn", "mut", "where", "impl", "for", "const", "as"].contains(&before)
        }
        _ => true,
    }
}

#[test]
fn tokens_are_rendered_as_rustfmt_does() {
    for text in [
        "pub fn f<'a, T: Into<Vec<u8>>>(&'a mut self, b: [u8; 4]) -> impl Future<Output = Result<(), T::Error>> + Send + 'a",
        "pub struct A<C, const N: usize> where C: Fn(&str) -> Option<(u8,)>",
        "type B = Pin<Box<dyn Future<Output = T> + Send + 'static>>",
        "cfg(all(feature = \"tls\", not(unix)))",
        "impl<T: ?Sized + Send> From<&T> for a::B<'_> {}",
    ] {
        assert_eq!(render(text.parse().unwrap()), text);
    }
    assert_eq!(render("fn f<T,>(a: A, b: B,)".parse().unwrap()), "fn f<T>(a: A, b: B)");
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
