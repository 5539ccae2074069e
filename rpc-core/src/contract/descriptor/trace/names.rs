//! [`short_name`]: the name of a Rust type without paths.

/// Returns the name of a Rust type without the paths of modules: `Page<Item>` for `a::Page<b::Item>`.
pub(super) fn short_name(full: &str) -> String {
    let mut short = String::with_capacity(full.len());
    let mut start = 0;
    for (at, character) in full.char_indices() {
        if character.is_alphanumeric() || character == '_' {
            continue;
        }
        if full[at..].starts_with("::") {
            start = at + 2;
        } else if character != ':' {
            short.push_str(full.get(start..at).unwrap_or_default());
            short.push(character);
            start = at + character.len_utf8();
        }
    }
    short.push_str(full.get(start..).unwrap_or_default());
    short
}

/// Returns the name of the type inside an `Option`, or the name itself.
pub(super) fn inside_option(full: &'static str) -> &'static str {
    let inside = full.strip_prefix("core::option::Option<").and_then(|rest| rest.strip_suffix('>'));
    inside.unwrap_or(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_removed_from_all_parts() {
        assert_eq!(short_name("u8"), "u8");
        assert_eq!(short_name("shop::model::Page<shop::Item, alloc::vec::Vec<[u8; 3]>>"), "Page<Item, Vec<[u8; 3]>>");
        assert_eq!(short_name("(chrono::DateTime<chrono::Utc>, &str)"), "(DateTime<Utc>, &str)");
        assert_eq!(inside_option("core::option::Option<a::B>"), "a::B");
        assert_eq!(inside_option("a::B"), "a::B");
    }
}
