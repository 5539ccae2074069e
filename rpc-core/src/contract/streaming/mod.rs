//! Streams of items: arguments and results of calls that consist of many values.
//!
//! | topic | module |
//! |---|---|
//! | a stream as programs see it | `stream`, its sending end `sender` |
//! | items before they are sent | `source` |
//! | the streams of a call at its callee | `callee` |
//! | streams within one process | `local_caller`, `local_callee` |

mod callee;
pub(super) mod local_callee;
mod local_caller;
mod sender;
mod source;
mod stream;

pub(crate) use callee::{CalleeStreams, Sent};
pub(crate) use local_caller::{LocalCallerItems, LocalFailure, LocalItems};
pub use sender::{StreamClosed, StreamSender, TrySendError};
pub use source::{CallerItems, CallerSource, ItemSource};
pub(crate) use stream::ReceivedStream;
pub use stream::Streaming;
