//! A session: the calls of one caller of an endpoint, over an msnb connection in memory.
//!
//! Both ends are drivers of a pipe in memory: that of the callee is the one of a socket, with the same role. They run in one
//! task, so that a call wakes one other task.
//!
//! | topic | module |
//! |---|---|
//! | opening a session, and sending calls | `caller` |
//! | the calls that wait for frames | `table` |
//! | the role of the calling end | `role` |
//! | answers that the endpoint has not read | `unread` |
//! | items that the endpoint receives | `reader` |

mod caller;
mod reader;
mod role;
mod table;
mod unread;

pub(super) use caller::{NotSent, Session};
pub use unread::Unread;
pub(super) use unread::UnreadBytes;
