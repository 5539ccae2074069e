//! [`Frame`]: a message on the wire, with its sender and number.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | sender, a random number of each backplane, big-endian |
//! | 8 | 8 | number of the message, from 1, big-endian; 0 for a marker |
//! | 16 | rest | message |

use bytes::{BufMut as _, Bytes, BytesMut};

/// A message with its sender and number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) sender: u64,
    /// The messages of a sender have consecutive numbers from 1. The number of a marker is 0.
    pub(super) number: u64,
    pub(super) message: Bytes,
}

impl Frame {
    /// Creates a marker, which only its sender evaluates.
    #[cfg(feature = "nats")]
    pub(super) fn marker(sender: u64) -> Self {
        Self { sender, number: 0, message: Bytes::new() }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEADER + self.message.len());
        bytes.put_u64(self.sender);
        bytes.put_u64(self.number);
        bytes.put_slice(&self.message);
        bytes.freeze()
    }

    /// Decodes a frame; `None` if it is too short.
    pub(super) fn decode(bytes: &Bytes) -> Option<Self> {
        let (sender, rest) = bytes.split_first_chunk()?;
        let (number, _) = rest.split_first_chunk()?;
        let (sender, number) = (u64::from_be_bytes(*sender), u64::from_be_bytes(*number));
        Some(Self { sender, number, message: bytes.slice(HEADER..) })
    }
}

/// The number of bytes before the message.
pub(super) const HEADER: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_has_golden_bytes() {
        let frame = Frame { sender: 1, number: 0x0203, message: Bytes::from_static(b"hi") };
        let bytes = Bytes::from_static(b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x02\x03hi");
        assert_eq!(frame.encode(), bytes);
        assert_eq!(Frame::decode(&bytes), Some(frame));
        for length in 0..HEADER {
            assert_eq!(Frame::decode(&bytes.slice(..length)), None, "{length}");
        }
    }
}
