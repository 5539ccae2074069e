//! Writes to stdout, whose reader may end early.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use crate::command_error::{CommandError, Exit};

/// Writes text to stdout at once.
///
/// A closed pipe, such as that of `head`, ends the command.
pub(crate) fn text(text: &str) -> Result<Exit, CommandError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Exit::Success),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            Err(CommandError::new(Exit::ClosedPipe, "the reader of stdout has ended"))
        }
        Err(error) => Err(CommandError::input(format!("cannot write to stdout: {error}"))),
    }
}

/// Writes a JSON document on one line to stdout at once.
pub(crate) fn line(value: &impl Serialize) -> Result<Exit, CommandError> {
    let mut document = serde_json::to_string(value).expect("the values have only string keys");
    document.push('\n');
    text(&document)
}

/// Writes text to stderr. If that fails, the text is lost.
pub(crate) fn note(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes an indented JSON document to stdout.
pub(crate) fn json(value: &impl Serialize) -> Result<Exit, CommandError> {
    let mut document = serde_json::to_string_pretty(value).expect("the values have only string keys");
    document.push('\n');
    text(&document)
}

/// Returns rows with columns that are aligned by spaces. The first row has the headings.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut table = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        table += cells.collect::<Vec<_>>().join("  ").trim_end();
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["A", "LONG"], ["wide", "é"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "A     LONG\nwide  é\n");
    }
}
