//! [`Frame`] and its 16-byte [`Header`]: the unit that connections exchange.
//!
//! docs/PROTOCOL.md specifies the layout.

use bytes::{Bytes, BytesMut};

/// The first four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"msnb";
/// The protocol version of this crate.
pub const VERSION: u8 = 1;
/// The length of a header in bytes.
pub const HEADER_LEN: usize = 16;

/// The type of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameType {
    /// A request of a call; caller to callee.
    Request,
    /// The answer to a request; callee to caller.
    Response,
    /// Requests a pong; both directions.
    Ping,
    /// Answers a ping and echoes its id; both directions.
    Pong,
    /// Cancels a call; caller to callee.
    Cancel,
    /// Announces that the callee accepts no new calls on this connection; callee to caller.
    ///
    /// Calls in flight continue.
    Goaway,
    /// One item of the caller's stream.
    CallerItem,
    /// The end of the caller's stream.
    CallerEnd,
    /// Permits the callee to send more items.
    CallerCredit,
    /// One item of the callee's stream.
    CalleeItem,
    /// The end of the callee's stream, and of the call.
    CalleeEnd,
    /// Permits the caller to send more items.
    CalleeCredit,
    /// Requests a proof of identity, with a [`Challenge`](crate::proof::Challenge); server to client.
    Challenge,
    /// Answers a challenge with a [`Proof`](crate::proof::Proof); client to server.
    Proof,
    /// States what its sender supports, with [`Settings`](crate::settings::Settings); both directions.
    Settings,
    /// Acknowledges fragments; both directions.
    Ack,
    /// The digests of the methods of a server, in response to a ping that asks for them; server to client.
    Digests,
    /// Another type from 69 to 127. A peer that does not support it ignores the frame.
    Extension(u8),
}

impl FrameType {
    /// Returns the type with this number; `None` for a number that violates the protocol.
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Ping,
            4 => Self::Pong,
            5 => Self::Cancel,
            6 => Self::Goaway,
            7 => Self::CallerItem,
            8 => Self::CallerEnd,
            9 => Self::CallerCredit,
            10 => Self::CalleeItem,
            11 => Self::CalleeEnd,
            12 => Self::CalleeCredit,
            64 => Self::Challenge,
            65 => Self::Proof,
            66 => Self::Settings,
            67 => Self::Ack,
            68 => Self::Digests,
            69..=127 => Self::Extension(number),
            _ => return None,
        })
    }

    /// Returns whether a body of this type may be sent in fragments.
    pub(crate) fn may_be_fragmented(self) -> bool {
        matches!(self, Self::Request | Self::Response | Self::CallerItem | Self::CalleeItem | Self::CalleeEnd)
    }

    /// Returns the number on the wire.
    pub fn as_u8(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Ping => 3,
            Self::Pong => 4,
            Self::Cancel => 5,
            Self::Goaway => 6,
            Self::CallerItem => 7,
            Self::CallerEnd => 8,
            Self::CallerCredit => 9,
            Self::CalleeItem => 10,
            Self::CalleeEnd => 11,
            Self::CalleeCredit => 12,
            Self::Challenge => 64,
            Self::Proof => 65,
            Self::Settings => 66,
            Self::Ack => 67,
            Self::Digests => 68,
            Self::Extension(number) => number,
        }
    }
}

/// The first 16 bytes of a frame.
///
/// Codec and compression are numbers: an unknown one fails its call and not the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The length of header and body together, in bytes.
    pub full_length: u32,
    /// The type of the frame.
    pub frame_type: FrameType,
    /// The codec of the payload.
    pub codec: u8,
    /// The compression of the payload.
    pub compression: u8,
    /// The id of the call to which the frame belongs; 0 for none.
    pub id: u32,
}

impl Header {
    /// Creates the header of a frame without a body.
    pub fn empty(frame_type: FrameType, id: u32) -> Self {
        Self { full_length: HEADER_LEN as u32, frame_type, codec: 0, compression: 0, id }
    }

    /// Parses a header.
    ///
    /// # Errors
    ///
    /// The [`Violation`] for which the connection must close.
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

    /// Returns the 16 bytes on the wire.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let [m0, m1, m2, m3] = MAGIC;
        let [l0, l1, l2, l3] = self.full_length.to_be_bytes();
        let [i0, i1, i2, i3] = self.id.to_be_bytes();
        let frame_type = self.frame_type.as_u8();
        [m0, m1, m2, m3, VERSION, l0, l1, l2, l3, frame_type, self.codec, self.compression, i0, i1, i2, i3]
    }

    /// Returns the length of the body, in bytes.
    pub fn body_length(&self) -> usize {
        self.full_length as usize - HEADER_LEN
    }
}

/// A header and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The first 16 bytes.
    pub header: Header,
    /// The head and the payload.
    pub body: Bytes,
}

impl Frame {
    /// Appends the frame to `out`. The length is computed from the body, whatever the header contains.
    pub fn write(&self, out: &mut BytesMut) {
        let full_length = u32::try_from(HEADER_LEN + self.body.len()).expect("`max_frame` keeps a frame below 4 GiB");
        out.extend_from_slice(&Header { full_length, ..self.header }.to_bytes());
        out.extend_from_slice(&self.body);
    }
}

/// Appends a frame whose body is a number: CREDIT or ACK.
pub fn put_number(out: &mut BytesMut, frame_type: FrameType, id: u32, number: u32) {
    let full_length = (HEADER_LEN + size_of::<u32>()) as u32;
    out.extend_from_slice(&Header { full_length, ..Header::empty(frame_type, id) }.to_bytes());
    out.extend_from_slice(&number.to_be_bytes());
}

/// The offset of the type in an encoded header.
pub(crate) const TYPE_AT: usize = 9;
/// The offset of the id in an encoded header.
pub(crate) const ID_AT: usize = 12;
/// The bit of an encoded type that states that more fragments of the body follow.
pub const MORE_FRAGMENTS: u8 = 0x80;
/// The length of the fragments that this crate sends, in bytes, including the header.
pub const FRAGMENT: usize = 64 << 10;
/// The longest frame that is not sent in fragments, in bytes.
pub const MAX_UNFRAGMENTED: usize = 128 << 10;
/// The shortest body of a fragment that is not the last, in bytes.
pub const MIN_FRAGMENT_BODY: usize = 16 << 10;
/// The number of bodies whose fragments one end assembles at the same time.
pub const MAX_FRAGMENTED_BODIES: usize = 4;

/// A violation of the protocol by the peer, for which the connection closes at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The first four bytes are not "msnb".
    #[error("magic is {0:02x?}, expected \"msnb\": {hint}", hint = protocol_hint(.0))]
    WrongMagic([u8; 4]),
    /// The protocol version is not supported.
    #[error("protocol version is {0}, expected {VERSION}")]
    WrongVersion(u8),
    /// The length is less than that of a header.
    #[error("frame length is {0} bytes, minimum is {HEADER_LEN}")]
    TooShort(u32),
    /// The length exceeds the limit so far that the frame is not skipped.
    #[error(
        "frame length is {length} bytes, more than {MAX_SKIPPED_LENGTH_RATIO} times the limit of {limit} (TransportConfig::max_frame)"
    )]
    TooLong {
        /// The length in the header, in bytes.
        length: u32,
        /// The longest accepted frame, in bytes.
        limit: u32,
    },
    /// The frame type is not supported and must not be ignored.
    #[error("frame type {0} is not supported")]
    UnknownType(u8),
    /// The head exceeds the body, or an entry exceeds the head.
    #[error("the head exceeds the body, or an entry exceeds the head")]
    HeadOverrun,
    /// The body of a ping exceeds the limit.
    #[error("ping body is {0} bytes, limit is 1024")]
    PingBody(usize),
    /// The rate of pings exceeds the limit.
    #[error("more than {0} pings in one second")]
    PingFlood(u32),
    /// The id of a request is 0.
    #[error("request id is 0")]
    ZeroId,
    /// The id of a request is that of another call in flight.
    #[error("request id {0} is already in flight")]
    DuplicateId(u32),
    /// An item arrived although its sender had no credit.
    #[error("an item of call {0} arrived without credit")]
    NoCredit(u32),
    /// A frame of a stream arrived after the stream's END.
    #[error("a frame of call {0} arrived after the END of its stream")]
    AfterEnd(u32),
    /// An item or the END of the callee's stream arrived before the RESPONSE.
    #[error("a frame of the stream of call {0} arrived before the RESPONSE")]
    BeforeResponse(u32),
    /// A RESPONSE with an error arrived for an accepted call.
    #[error("call {0} was accepted and has a RESPONSE with an error")]
    SecondResponse(u32),
    /// A CREDIT frame is malformed, or the credit exceeds its limit.
    #[error("CREDIT for call {0} is malformed or exceeds the limit of 2 GiB")]
    BadCredit(u32),
    /// A fragment that is not the last one of its body is too short.
    #[error("a fragment has a body of {0} bytes, minimum is {MIN_FRAGMENT_BODY} except for the last one")]
    ShortFragment(usize),
    /// The fragments of a body have another length than the first one announces.
    #[error("the fragments of a body of call {0} have another length than the first one announces")]
    FragmentLength(u32),
    /// An ACK is malformed, acknowledges less than a fragment, or bytes that were not sent.
    #[error("ACK is malformed, acknowledges less than a fragment, or fragments that were not sent")]
    BadAck,
    /// Fragments were not acknowledged in time.
    #[error("fragments were not acknowledged in time (TransportConfig::write_stall)")]
    NoAck,
    /// The fragments of too many bodies are interleaved.
    #[error("more than {MAX_FRAGMENTED_BODIES} bodies are in fragments at the same time")]
    TooManyFragmented,
    /// The fragments of a body were not completed in time.
    #[error("fragments of a body of call {0} did not arrive in time (TransportConfig::frame_time)")]
    SlowFragments(u32),
    /// An incomplete frame was not completed in time.
    #[error("frame of {0} bytes did not arrive in time (TransportConfig::frame_time)")]
    SlowFrame(usize),
}

/// Returns the probable cause of a wrong magic.
fn protocol_hint(magic: &[u8; 4]) -> &'static str {
    // TLS starts with a handshake or an alert record. The reader may have received only its first byte; the others are
    // then 0.
    if matches!(magic, [0x15 | 0x16, 0x03 | 0, ..]) {
        "the peer uses TLS and this end does not"
    } else {
        "the peer uses another protocol"
    }
}

/// The largest ratio of a frame's length to the limit up to which an overlong frame is skipped.
///
/// A longer frame closes the connection.
pub(crate) const MAX_SKIPPED_LENGTH_RATIO: u32 = 16;

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
    fn invalid_headers_are_violations() {
        let with = |at: usize, value: u8| {
            let mut bytes = Header::empty(FrameType::Ping, 1).to_bytes();
            bytes[at] = value;
            Header::parse(&bytes)
        };
        assert_eq!(with(0, b'M'), Err(Violation::WrongMagic(*b"Msnb")));
        assert_eq!(with(4, 2), Err(Violation::WrongVersion(2)));
        assert_eq!(with(8, 15), Err(Violation::TooShort(15)));
        for unknown in [0, 13, 63, 128, 255] {
            assert_eq!(with(9, unknown), Err(Violation::UnknownType(unknown)));
        }
        for ignored in [69, 127] {
            assert_eq!(with(9, ignored).unwrap().frame_type, FrameType::Extension(ignored));
        }
    }
}
