//! [`Inbound`]: the frames that a connection receives.

use crate::frame::{Frame, Header};

/// The output of a `FrameReader`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// A complete frame.
    Frame(Frame),
    /// The header of a frame longer than the limit. The reader skips its body as it arrives.
    Overlong(Header),
}
