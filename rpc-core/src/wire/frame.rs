//! [`Frame`] and its 16-byte [`Header`]: the unit that connections exchange. docs/PROTOCOL.md has the layout.

use bytes::{Bytes, BytesMut};

/// The first four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"msnb";
/// The version of the protocol that this crate speaks.
pub const VERSION: u8 = 1;
/// The length of a header in bytes.
pub const HEADER_LEN: usize = 16;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameType {
    /// A call; caller to callee.
    Request,
    /// The answer to a call; callee to caller.
    Response,
    /// Asks for a pong; either way.
    Ping,
    /// Answers a ping and echoes its id; either way.
    Pong,
    /// Gives a call up; caller to callee.
    Cancel,
    /// No new calls on this connection, those in flight finish; callee to caller.
    Goaway,
    /// Reserved: one item of a stream.
    Item,
    /// Reserved: the end of a stream.
    End,
    /// Reserved: permission to send items.
    Credit,
    /// Asks who the peer is, by a [`Challenge`](crate::proof::Challenge); server to client.
    Challenge,
    /// Answers a challenge by a [`Proof`](crate::proof::Proof); client to server.
    Proof,
    /// Others of 64 to 127: ignored by who does not know it.
    Extension(u8),
}

impl FrameType {
    /// The type with this number; `None` for a number that breaks the protocol.
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Ping,
            4 => Self::Pong,
            5 => Self::Cancel,
            6 => Self::Goaway,
            7 => Self::Item,
            8 => Self::End,
            9 => Self::Credit,
            64 => Self::Challenge,
            65 => Self::Proof,
            66..=127 => Self::Extension(number),
            _ => return None,
        })
    }

    /// The number on the wire.
    pub fn as_u8(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Ping => 3,
            Self::Pong => 4,
            Self::Cancel => 5,
            Self::Goaway => 6,
            Self::Item => 7,
            Self::End => 8,
            Self::Credit => 9,
            Self::Challenge => 64,
            Self::Proof => 65,
            Self::Extension(number) => number,
        }
    }
}

/// The first 16 bytes of a frame.
///
/// Codec and compression stay numbers here: an unknown one fails its call and not the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Header and body together, in bytes.
    pub full_length: u32,
    /// What the frame is for.
    pub frame_type: FrameType,
    /// How the payload is serialized.
    pub codec: u8,
    /// How the payload is compressed.
    pub compression: u8,
    /// The call that the frame belongs to; 0 for none.
    pub id: u32,
}

impl Header {
    /// The header of a frame without a body.
    pub fn empty(frame_type: FrameType, id: u32) -> Self {
        Self { full_length: HEADER_LEN as u32, frame_type, codec: 0, compression: 0, id }
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// The [`Violation`] that makes the connection unusable.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, Violation> {
        let [m0, m1, m2, m3, version, l0, l1, l2, l3, frame_type, codec, compression, i0, i1, i2, i3] = *bytes;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(Violation::WrongMagic([m0, m1, m2, m3]));
        }
        if version != VERSION {
            return Err(Violation::WrongVersion(version));
        }
        let full_length = u32::from_be_bytes([l0, l1, l2, l3]);
        if (full_length as usize) < HEADER_LEN {
            return Err(Violation::TooShort(full_length));
        }
        let frame_type = FrameType::from_u8(frame_type).ok_or(Violation::UnknownType(frame_type))?;
        Ok(Self { full_length, frame_type, codec, compression, id: u32::from_be_bytes([i0, i1, i2, i3]) })
    }

    /// The 16 bytes on the wire.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let [m0, m1, m2, m3] = MAGIC;
        let [l0, l1, l2, l3] = self.full_length.to_be_bytes();
        let [i0, i1, i2, i3] = self.id.to_be_bytes();
        let frame_type = self.frame_type.as_u8();
        [m0, m1, m2, m3, VERSION, l0, l1, l2, l3, frame_type, self.codec, self.compression, i0, i1, i2, i3]
    }

    /// The length of what follows the header, in bytes.
    pub fn body_length(&self) -> usize {
        self.full_length as usize - HEADER_LEN
    }
}

/// A header and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The first 16 bytes.
    pub header: Header,
    /// The rest.
    pub body: Bytes,
}

impl Frame {
    /// Appends the frame to `out`, with the length that the body really has.
    pub fn write(&self, out: &mut BytesMut) {
        let full_length = (HEADER_LEN + self.body.len()) as u32;
        out.extend_from_slice(&Header { full_length, ..self.header }.to_bytes());
        out.extend_from_slice(&self.body);
    }
}

/// Where the id stands in a header that was written already.
pub(crate) const ID_AT: usize = 12;

/// Something that a peer must never do: the connection cannot be trusted any more and is closed at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The first four bytes are not "msnb".
    #[error("the magic is {0:02x?} instead of \"msnb\"; does the peer speak {another}?", another = other_protocol(.0))]
    WrongMagic([u8; 4]),
    /// A version that this crate does not speak.
    #[error("version {0} of the protocol is not spoken here, only {VERSION}")]
    WrongVersion(u8),
    /// A length that does not even hold the header.
    #[error("a full length of {0} is less than a header")]
    TooShort(u32),
    /// A length so far over the limit that skipping it is not worth it.
    #[error("a full length of {length} is more than {MAX_SKIPPED_FRAMES_RATIO} times the limit of {limit}")]
    TooLong {
        /// What the header says, in bytes.
        length: u32,
        /// The largest frame taken, in bytes.
        limit: u32,
    },
    /// A type that is neither known nor ignorable.
    #[error("type {0} is neither known nor one to be ignored")]
    UnknownType(u8),
    /// The head does not fit into the body, or an entry not into the head.
    #[error("the head is longer than what holds it")]
    HeadOverrun,
    /// A ping's body is longer than can be forgiven.
    #[error("a ping with a body of {0} bytes")]
    PingBody(usize),
    /// More pings a second than anyone needs.
    #[error("more than {0} pings in a second")]
    PingFlood(u32),
    /// A call without an id.
    #[error("a call with id 0")]
    ZeroId,
    /// A call with the id of another that is still in flight.
    #[error("a second request with id {0} while the first is in flight")]
    DuplicateId(u32),
    /// A frame was begun and not finished in time.
    #[error("a frame of {0} bytes was begun and not finished in time")]
    SlowFrame(usize),
}

/// What a peer seems to speak whose bytes are not this protocol's.
fn other_protocol(magic: &[u8; 4]) -> &'static str {
    // TLS begins with a record of a handshake or an alert; a reader tells as soon as it has one byte of it.
    if matches!(magic, [0x15 | 0x16, 0x03 | 0, ..]) { "TLS, and this end not" } else { "another protocol" }
}

/// A frame over the limit is skipped as it arrives up to this many times the limit; beyond, the connection closes.
pub(crate) const MAX_SKIPPED_FRAMES_RATIO: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips() {
        let header = Header {
            full_length: 0x0102_0304,
            frame_type: FrameType::Response,
            codec: 2,
            compression: 1,
            id: 0xa1b2_c3d4,
        };
        let bytes = header.to_bytes();
        assert_eq!(bytes, *b"msnb\x01\x01\x02\x03\x04\x02\x02\x01\xa1\xb2\xc3\xd4");
        assert_eq!(Header::parse(&bytes), Ok(header));
    }

    #[test]
    fn headers_that_cannot_be_trusted() {
        let with = |at: usize, value: u8| {
            let mut bytes = Header::empty(FrameType::Ping, 1).to_bytes();
            bytes[at] = value;
            Header::parse(&bytes)
        };
        assert_eq!(with(0, b'M'), Err(Violation::WrongMagic(*b"Msnb")));
        assert_eq!(with(4, 2), Err(Violation::WrongVersion(2)));
        assert_eq!(with(8, 15), Err(Violation::TooShort(15)));
        for unknown in [0, 10, 63, 128, 255] {
            assert_eq!(with(9, unknown), Err(Violation::UnknownType(unknown)));
        }
        for ignored in [66, 127] {
            assert_eq!(with(9, ignored).unwrap().frame_type, FrameType::Extension(ignored));
        }
    }
}
