//! [`Fault`]: why a message cannot be converted.

use std::fmt;

/// Why a message cannot be converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The fields that lead to the faulty value, the inner ones first.
    path: Vec<String>,
    problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    Malformed(&'static str),
    TooLong(usize),
}

impl Fault {
    pub(crate) fn new(problem: &'static str) -> Self {
        Self { path: Vec::new(), problem: Problem::Malformed(problem) }
    }

    /// The converted message is longer than `limit` bytes.
    pub(crate) fn too_long(limit: usize) -> Self {
        Self { path: Vec::new(), problem: Problem::TooLong(limit) }
    }

    /// Returns whether the message would exceed a limit.
    pub(crate) fn is_too_long(&self) -> bool {
        matches!(self.problem, Problem::TooLong(_))
    }

    /// Adds the field that contains the faulty value.
    pub(super) fn within(mut self, field: &str) -> Self {
        if self.path.len() < MAX_PATH {
            self.path.push(field.to_owned());
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            let path: Vec<_> = self.path.iter().rev().map(String::as_str).collect();
            write!(f, "`{}`: ", path.join("."))?;
        }
        match self.problem {
            Problem::Malformed(problem) => f.write_str(problem),
            Problem::TooLong(limit) => {
                write!(f, "the message has more than {limit} bytes as arguments (TransportConfig::max_frame)")
            }
        }
    }
}

impl std::error::Error for Fault {}

/// The number of fields that an error names.
const MAX_PATH: usize = 16;
