//! The wire format: frames, their heads, and the messages that consist of both.
//!
//! docs/PROTOCOL.md specifies it.
//!
//! | topic | module |
//! |---|---|
//! | frames, their headers and protocol violations | `frame` |
//! | heads of requests and responses | `head` |
//! | a request or a response with its value | `message` |
//! | what an end of a connection supports | `settings` |
//! | the digests of a server's methods | `digests` |
//! | writing an answer, and keeping one for repeated requests | `answer`, `stored_answer` |

pub(crate) mod answer;
mod digests;
pub mod frame;
pub mod head;
mod message;
pub mod settings;
mod stored_answer;

pub use digests::Digests;
pub use message::Message;
pub(crate) use stored_answer::AnswerStore;
pub use stored_answer::StoredAnswer;
