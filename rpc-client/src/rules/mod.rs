//! Rules: policies of calls in a document that operators change while the program runs.
//!
//! | topic | module |
//! |---|---|
//! | the document | `document`, its fields `entry` |
//! | one rule, and its application to a call | `rule` |
//! | the rules of a client, and the file from which it reads them | `source` |

mod document;
mod entry;
pub(crate) mod rule;
pub(crate) mod source;

pub use document::Rules;
