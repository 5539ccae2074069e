//! What both ends of a connection share: frames to bytes and back, within limits.

mod driver;
mod io;
mod outbox;
mod reader;

pub use driver::{Activity, CloseReason, Driver, Role, TransportConfig, Turn};
pub use io::{Accept, Connect, Io, Tcp};
pub use outbox::{Outbox, Position, PushError};
pub use reader::{FrameReader, Inbound};
