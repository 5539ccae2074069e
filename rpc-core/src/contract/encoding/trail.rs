//! [`Trail`]: the path to the field that does not encode or decode, and the cause.

use std::{cell::RefCell, fmt, fmt::Write as _};

/// The path to the field that does not encode or decode, from the inside to the outside, and the cause.
///
/// Only failures write to it, so it costs nothing otherwise.
#[derive(Debug, Default)]
pub(super) struct Trail(RefCell<Inner>);

#[derive(Debug, Default)]
struct Inner {
    cause: Option<&'static str>,
    /// The names of the innermost fields.
    path: Vec<&'static str>,
    /// The type of the innermost field.
    type_name: &'static str,
}

impl Trail {
    /// Records a cause that the serialization library does not state, and returns an error for it.
    #[cold]
    pub(super) fn fail<E: serde::ser::Error>(&self, cause: &'static str) -> E {
        self.0.borrow_mut().cause = Some(cause);
        E::custom(cause)
    }

    /// Adds the field that contains the failure recorded so far.
    #[cold]
    pub(super) fn note(&self, field: &'static str, type_name: &'static str) {
        let mut inner = self.0.borrow_mut();
        if inner.path.is_empty() {
            inner.type_name = type_name;
        }
        if inner.path.len() < MAX_PATH {
            inner.path.push(field);
        }
    }

    /// Returns the message of a failure: the field, its type and the cause, or `error` if no cause was recorded.
    pub(super) fn describe(self, error: &dyn fmt::Display) -> String {
        let Inner { cause, path, type_name } = self.0.into_inner();
        let mut message = String::new();
        for (index, name) in path.iter().rev().enumerate() {
            let separator = if index == 0 || name.starts_with('[') { "" } else { "." };
            let start = if index == 0 { "`" } else { "" };
            // Writing to a string does not fail.
            let _ = write!(message, "{start}{separator}{name}");
        }
        if !path.is_empty() {
            // Derives use types with such names for `#[serde(with)]`.
            let is_generated = type_name.is_empty() || type_name.contains("::__");
            message.push('`');
            if !is_generated {
                let _ = write!(message, " of type `{type_name}`");
            }
            message.push_str(": ");
        }
        let _ = match cause {
            Some(cause) => write!(message, "{cause}"),
            None => write!(message, "{error}"),
        };
        message
    }
}

/// The largest number of fields in a path.
const MAX_PATH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_has_path_type_and_cause() {
        let trail = Trail::default();
        trail.note("price", "Decimal");
        trail.note("[]", "Item");
        trail.note("order", "Order");
        assert_eq!(trail.describe(&"a cause"), "`order[].price` of type `Decimal`: a cause");
        assert_eq!(Trail::default().describe(&"a cause"), "a cause");
        let trail = Trail::default();
        let _: serde::de::value::Error = trail.fail("ours");
        assert_eq!(trail.describe(&"theirs"), "ours");
    }
}
