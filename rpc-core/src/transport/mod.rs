//! What both ends of a connection share: frames to bytes and back, within limits.

mod driver;
mod io;
mod outbox;
mod ping_window;
mod reader;
mod traffic;

pub use driver::{Activity, CloseReason, Driver, Role, TransportConfig, Turn};
pub use io::{Accept, Connect, Io, Tcp};
pub use outbox::{Outbox, Position, PushError};
pub use ping_window::PingWindow;
pub use reader::{FrameReader, Inbound};
pub use traffic::Traffic;
