//! Text of a server or registry for a terminal.

/// Returns a text of a server or registry without control characters, which could change the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(printable("a\n\u{1b}[2J\u{9b}é"), "a\n\u{fffd}[2J\u{fffd}é");
    }
}
