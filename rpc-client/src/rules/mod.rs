//! Rules: policies of calls in a document that operators change while the program runs.
//!
//! | topic | module |
//! |---|---|
//! | the document | `document`, its fields `entry` |
//! | one rule, and its application to a call | `rule` |
//! | the rules of a client | `source` |
//! | the file with the rules of the program | `file` |

mod document;
mod entry;
mod file;
pub(crate) mod rule;
pub(crate) mod source;

pub use document::Rules;
