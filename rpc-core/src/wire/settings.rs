//! [`Settings`]: the extensions that one end of a connection supports.
//!
//! docs/PROTOCOL.md specifies the layout.

use bytes::{Buf, BufMut, BytesMut};

use super::frame::{Frame, FrameType, HEADER_LEN, Header, MAX_FRAGMENTED_BODIES};

/// The extensions of the protocol that one end of a connection supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// The number of bodies whose fragments the sender of the settings assembles at the same time; 0 if it supports no
    /// fragments.
    pub fragmented_bodies: u8,
}

impl Settings {
    /// The settings of this crate.
    pub const OWN: Self = Self { fragmented_bodies: MAX_FRAGMENTED_BODIES as u8 };

    /// Reads the body of a SETTINGS frame. Skips unknown entries, and the remainder from a malformed entry on.
    pub fn read(mut body: &[u8]) -> Self {
        let mut settings = Self::default();
        while body.len() >= ENTRY_HEADER {
            let (tag, length) = (body.get_u8(), usize::from(body.get_u16()));
            let Some((value, rest)) = body.split_at_checked(length) else { break };
            if let (FRAGMENTED_BODIES, [bodies]) = (tag, value) {
                settings.fragmented_bodies = *bodies;
            }
            body = rest;
        }
        settings
    }

    /// Returns the frame to send.
    pub fn to_frame(self) -> Frame {
        let mut body = BytesMut::with_capacity(ENTRY_HEADER + 1);
        body.put_u8(FRAGMENTED_BODIES);
        body.put_u16(1);
        body.put_u8(self.fragmented_bodies);
        let full_length = (HEADER_LEN + body.len()) as u32;
        let header = Header { full_length, ..Header::empty(FrameType::Settings, 0) };
        Frame { header, body: body.freeze() }
    }
}

/// The length of the tag and the length of an entry, in bytes.
const ENTRY_HEADER: usize = 3;
/// The tag of [`Settings::fragmented_bodies`].
const FRAGMENTED_BODIES: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_round_trip() {
        let mut frame = BytesMut::new();
        Settings::OWN.to_frame().write(&mut frame);
        assert_eq!(frame, &b"msnb\x01\0\0\0\x14\x42\0\0\0\0\0\0\x01\0\x01\x04"[..]);
        assert_eq!(Settings::read(&frame[HEADER_LEN..]), Settings::OWN);
    }

    #[test]
    fn unknown_and_malformed_entries_are_skipped() {
        assert_eq!(Settings::read(b"\x07\0\x02ab\x01\0\x01\x09").fragmented_bodies, 9);
        assert_eq!(Settings::read(b"\x01\0\x02ab\x01\0").fragmented_bodies, 0);
        assert_eq!(Settings::read(b"\x01\xff\xffa"), Settings::default());
        assert_eq!(Settings::read(b""), Settings::default());
    }
}
