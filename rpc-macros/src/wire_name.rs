//! Names as they travel: of services, versions and methods.

/// The longest `name:version`, and the longest name of a method, in bytes.
pub(crate) const MAX_LEN: usize = 256;

/// Says what is wrong with a name of `what`, if anything: it is made of ASCII letters, digits, `.`, `_` and `-`, and is
/// neither empty nor too long.
pub(crate) fn fault(what: &str, name: &str) -> Option<String> {
    if name.is_empty() {
        return Some(format!("{what} is not empty"));
    }
    if let Some(strange) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        return Some(format!(
            "{what} is made of the letters a to z and A to Z, digits, `.`, `_` and `-`; {strange:?} is none of them"
        ));
    }
    (name.len() > MAX_LEN).then(|| format!("{what} has at most {MAX_LEN} bytes; this one has {}", name.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_takes_is_legal() {
        for name in ["a", "demo.Greeter", "1.0", "say_hello", "a-b", "0"] {
            assert_eq!(fault("a name", name), None);
        }
    }

    #[test]
    fn what_it_would_not_take_is_named() {
        assert_eq!(fault("a name", "").unwrap(), "a name is not empty");
        for (name, strange) in [("de mo", "' '"), ("a/b", "'/'"), ("a:b", "':'"), ("grüß", "'ü'")] {
            assert!(fault("a name", name).unwrap().contains(strange), "{name}");
        }
    }

    #[test]
    fn length_is_bounded_at_the_bound_and_one_over() {
        assert_eq!(fault("a name", &"n".repeat(MAX_LEN)), None);
        assert!(fault("a name", &"n".repeat(MAX_LEN + 1)).unwrap().contains("has 257"));
    }
}
