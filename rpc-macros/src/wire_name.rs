//! The names of services, versions and methods on the wire.

/// The longest `name:version`, and the longest name of a method, in bytes.
pub(crate) const MAX_LEN: usize = 256;

/// Checks a name, and returns a message for the user if it is invalid.
///
/// A name consists of 1 to 256 ASCII letters, digits, `.`, `_` and `-`. `kind` names it in the message.
pub(crate) fn fault(kind: &str, name: &str) -> Option<String> {
    if name.is_empty() {
        return Some(format!("{kind} must not be empty"));
    }
    if let Some(invalid) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        return Some(format!(
            "{kind} must consist of ASCII letters, digits, `.`, `_` and `-`, but contains {invalid:?}"
        ));
    }
    (name.len() > MAX_LEN).then(|| format!("{kind} is {} bytes, limit is {MAX_LEN}", name.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_accepts_valid_names() {
        for name in ["a", "demo.Greeter", "1.0", "say_hello", "a-b", "0"] {
            assert_eq!(fault("a name", name), None);
        }
    }

    #[test]
    fn fault_names_the_invalid_character() {
        assert_eq!(fault("a name", "").unwrap(), "a name must not be empty");
        for (name, invalid) in [("de mo", "' '"), ("a/b", "'/'"), ("a:b", "':'"), ("grüß", "'ü'")] {
            assert!(fault("a name", name).unwrap().contains(invalid), "{name}");
        }
    }

    #[test]
    fn fault_enforces_the_length_limit() {
        assert_eq!(fault("a name", &"n".repeat(MAX_LEN)), None);
        assert!(fault("a name", &"n".repeat(MAX_LEN + 1)).unwrap().contains("is 257 bytes"));
    }
}
