//! Heads of frames: tag-length-value entries before the payload. docs/PROTOCOL.md lists the tags.
//!
//! | topic | item |
//! |---|---|
//! | the head of a REQUEST | [`RequestHead`] when read, [`RequestHeadRef`] when written |
//! | the head of a RESPONSE or GOAWAY | [`ResponseHead`] |
//! | `service:version/method` | [`Route`] |
//! | kinds of calls | [`CallFlags`] |
//! | failures | [`HeadError`] |

mod call_flags;
mod entry;
mod error;
mod request;
mod response;
mod route;
mod tag;

pub use call_flags::CallFlags;
pub use error::HeadError;
pub use request::{RequestHead, RequestHeadRef};
pub use response::ResponseHead;
pub(crate) use response::check;
pub use route::Route;
