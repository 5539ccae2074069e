//! Identifiers of other languages from the names of a contract.

use std::collections::BTreeSet;

/// Unique identifiers of one scope.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeSet<String>);

impl Names {
    /// Returns the identifier, with a number if another one has its name.
    pub(crate) fn unique(&mut self, wanted: &str) -> String {
        let numbered = (2..).map(|number| format!("{wanted}{number}"));
        let mut candidates = std::iter::once(wanted.to_owned()).chain(numbered);
        let name = candidates.find(|name| !self.0.contains(name)).expect("the numbers have no end");
        self.0.insert(name.clone());
        name
    }
}

/// Returns a name with letters, digits and underscores, which begins with a letter.
pub(crate) fn identifier(name: &str) -> String {
    let text: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if text.starts_with(|c: char| c.is_ascii_alphabetic()) { text } else { format!("x{text}") }
}

/// Returns a name as `UpperCamelCase`: `find_goods` is `FindGoods`, and `Page<u8>` is `PageU8`.
pub(crate) fn upper_camel(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let camel: String = words
        .map(|word| {
            let mut characters = word.chars();
            let first = characters.next().map(|c| c.to_ascii_uppercase());
            first.into_iter().chain(characters).collect::<String>()
        })
        .collect();
    identifier(&camel)
}

/// Returns a name as `UPPER_SNAKE_CASE`.
pub(crate) fn upper_snake(name: &str) -> String {
    let mut snake = String::new();
    let mut after_lower = false;
    for c in identifier(name).chars() {
        if c.is_ascii_uppercase() && after_lower {
            snake.push('_');
        }
        after_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        snake.push(c.to_ascii_uppercase());
    }
    snake
}

/// Returns the name that Protocol Buffers use in JSON for a field without `json_name`.
pub(crate) fn lower_camel(name: &str) -> String {
    let mut camel = String::new();
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                camel.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => camel.push(c),
        }
    }
    camel
}

/// Returns the last part of the name of a service, as an identifier.
pub(crate) fn service(name: &str) -> String {
    upper_camel(name.rsplit('.').next().unwrap_or(name))
}

/// Returns the lines of a doc comment without control characters.
pub(crate) fn doc_lines(docs: &str) -> impl Iterator<Item = String> {
    docs.lines().map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>().trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_identifiers() {
        assert_eq!([upper_camel("find_goods"), upper_camel("Page<Page<u8>>")], ["FindGoods", "PagePageU8"]);
        assert_eq!([upper_camel("Adjacent#2"), upper_camel("é"), upper_camel("2")], ["Adjacent2", "x", "x2"]);
        assert_eq!([upper_snake("EmptyName"), upper_snake("HTTP"), upper_snake("a1B")], ["EMPTY_NAME", "HTTP", "A1_B"]);
        assert_eq!([lower_camel("first_name"), lower_camel("firstName")], ["firstName", "firstName"]);
        assert_eq!(service("demo.shop.Greeter"), "Greeter");
        let mut names = Names::default();
        assert_eq!([names.unique("A"), names.unique("A"), names.unique("A")], ["A", "A2", "A3"]);
    }
}
