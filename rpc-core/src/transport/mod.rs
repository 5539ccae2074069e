//! What both ends of a connection share: frames to bytes and back, within limits.

mod outbox;

pub use outbox::{Outbox, PushError};
