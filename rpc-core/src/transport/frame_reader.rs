//! [`FrameReader`]: splits a byte stream into frames.

use bytes::{Buf, BytesMut};

use super::{inbound::Inbound, reassembly::Reassembly};
use crate::frame::{
    Frame, FrameType, HEADER_LEN, Header, MAGIC, MAX_SKIPPED_LENGTH_RATIO, MORE_FRAGMENTS, TYPE_AT, VERSION, Violation,
};

/// Splits a byte stream into frames, regardless of how the stream arrives in pieces, and assembles those that arrive in
/// fragments. Does no I/O.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    reassembly: Reassembly,
    /// The number of bytes of fragments that were read and are to be acknowledged.
    fragment_bytes: u32,
    /// The number of bytes of an overlong frame's body that remain to be skipped.
    skip: usize,
    /// The full length of the skipped frame, which determines its deadline while the remainder shrinks.
    skipped_length: usize,
    max_frame: u32,
    /// The capacity of the next read, in bytes.
    chunk: usize,
}

impl FrameReader {
    /// The default limit of a frame's length: 8 MiB.
    pub const MAX_FRAME: u32 = 8 << 20;
    /// The longest accepted body of a ping, in bytes. Pings of msnb have none.
    pub const MAX_PING_BODY: usize = 1024;

    /// Creates a reader of frames of at most `max_frame` bytes, including the header.
    pub fn new(max_frame: u32) -> Self {
        Self {
            buffer: BytesMut::new(),
            reassembly: Reassembly::default(),
            fragment_bytes: 0,
            skip: 0,
            skipped_length: 0,
            max_frame,
            chunk: MIN_CHUNK,
        }
    }

    /// Changes the limit for the following frames and keeps the buffered bytes.
    #[must_use]
    pub fn with_max_frame(mut self, max_frame: u32) -> Self {
        self.max_frame = max_frame;
        self
    }

    /// Returns the next frame of the buffered bytes; `None` if more bytes must be read first.
    ///
    /// # Errors
    ///
    /// A [`Violation`], after which the reader must not be used.
    pub fn next_frame(&mut self) -> Result<Option<Inbound>, Violation> {
        let skipped = self.skip.min(self.buffer.len());
        self.buffer.advance(skipped);
        self.skip -= skipped;
        loop {
            let Some(mut header) = self.buffer.first_chunk::<HEADER_LEN>().copied() else {
                return self.check_partial_header().map(|()| None);
            };
            let has_more = take_more_fragments(&mut header);
            let header = Header::parse(&header)?;
            if header.frame_type == FrameType::Ping && header.body_length() > Self::MAX_PING_BODY {
                return Err(Violation::PingBody(header.body_length()));
            }
            if header.full_length > self.max_frame {
                return self.skip_overlong(header, has_more).map(Some);
            }
            if self.buffer.len() < header.full_length as usize {
                return Ok(None);
            }
            if has_more || self.reassembly.expects(&header) {
                match self.take_fragment(header, has_more)? {
                    Some(inbound) => return Ok(Some(inbound)),
                    None => continue,
                }
            }
            if header.frame_type == FrameType::Cancel {
                self.reassembly.cancel(header.id);
            }
            let mut body = self.buffer.split_to(header.full_length as usize).freeze();
            body.advance(HEADER_LEN);
            if header.full_length as usize > MAX_CHUNK {
                self.chunk = MIN_CHUNK;
            }
            return Ok(Some(Inbound::Frame(Frame { header, body })));
        }
    }

    /// Copies a fragment out of the buffer, which keeps its allocation. Returns the frame that it completes.
    fn take_fragment(&mut self, header: Header, has_more: bool) -> Result<Option<Inbound>, Violation> {
        let fragment = &self.buffer[HEADER_LEN..header.full_length as usize];
        let inbound = if has_more {
            self.fragment_bytes = self.fragment_bytes.saturating_add(header.full_length);
            self.reassembly.add(header, fragment, self.max_frame)?.map(Inbound::Overlong)
        } else {
            self.reassembly.complete(&header, fragment, self.max_frame)?
        };
        self.buffer.advance(header.full_length as usize);
        Ok(inbound)
    }

    /// Skips a frame that is longer than the limit.
    fn skip_overlong(&mut self, header: Header, has_more: bool) -> Result<Inbound, Violation> {
        let length = header.full_length;
        if has_more
            || self.reassembly.expects(&header)
            || u64::from(length) > u64::from(self.max_frame) * u64::from(MAX_SKIPPED_LENGTH_RATIO)
        {
            return Err(Violation::TooLong { length, limit: self.max_frame });
        }
        self.buffer.advance(HEADER_LEN);
        self.skip = header.body_length();
        self.skipped_length = length as usize;
        Ok(Inbound::Overlong(header))
    }

    /// Returns whether fragments, except last ones, were read since the last
    /// [`take_fragment_bytes`](Self::take_fragment_bytes).
    pub(super) fn has_read_fragments(&self) -> bool {
        self.fragment_bytes > 0
    }

    /// Returns the number of bytes of fragments, except last ones, that were read since the last call.
    pub(super) fn take_fragment_bytes(&mut self) -> u32 {
        std::mem::take(&mut self.fragment_bytes)
    }

    /// Returns the oldest body of which fragments are missing: its ordinal number on this connection, and the id of its
    /// call.
    pub(super) fn oldest_fragmented(&self) -> Option<(u64, u32)> {
        self.reassembly.oldest()
    }

    /// Returns the buffer to read into, with spare capacity.
    ///
    /// The caller reports the number of bytes read to [`filled`](Self::filled).
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        // Reserve the remainder of a long frame and little more, so that few bytes move when the next frame needs a new
        // allocation. But a header may announce a long frame that never arrives: beyond UNPROVED, the capacity at most
        // doubles with the bytes that have arrived.
        let length = self.frame_length();
        let missing = length.saturating_sub(self.buffer.len()) + MIN_CHUNK;
        let capacity = if length > self.chunk { missing.min(self.buffer.len().max(UNPROVED)) } else { self.chunk };
        self.buffer.reserve(capacity);
        &mut self.buffer
    }

    /// Records the number of bytes of one read, which adapts the capacity of the next.
    pub fn filled(&mut self, count: usize) {
        if self.buffer.spare_capacity_mut().is_empty() {
            self.chunk = (self.chunk * 2).min(MAX_CHUNK);
        } else if count < self.chunk / 4 {
            self.chunk = (self.chunk / 2).max(MIN_CHUNK);
        }
    }

    /// Returns whether an incomplete frame is buffered or being skipped.
    pub fn is_mid_frame(&self) -> bool {
        self.skip > 0 || !self.buffer.is_empty()
    }

    /// Returns the length of the incomplete frame in bytes; 0 if it is not known yet.
    pub fn frame_length(&self) -> usize {
        if self.skip > 0 {
            return self.skipped_length;
        }
        let header = self.buffer.first_chunk::<HEADER_LEN>().copied().and_then(|mut header| {
            take_more_fragments(&mut header);
            Header::parse(&header).ok()
        });
        header.map_or(0, |header| header.full_length as usize)
    }

    /// Releases the buffer if it is empty, so that an idle connection holds no memory.
    pub fn release(&mut self) {
        if self.holds_nothing() {
            self.buffer = BytesMut::new();
            self.chunk = MIN_CHUNK;
        }
    }

    /// Returns whether the reader holds an empty buffer.
    pub fn holds_nothing(&self) -> bool {
        self.buffer.is_empty() && self.buffer.capacity() > 0
    }

    /// Checks an incomplete header, so that a peer with another protocol is detected by its first byte.
    fn check_partial_header(&self) -> Result<(), Violation> {
        let begun = self.buffer.len().min(MAGIC.len());
        if self.buffer[..begun] != MAGIC[..begun] {
            let mut magic = [0; MAGIC.len()];
            magic[..begun].copy_from_slice(&self.buffer[..begun]);
            return Err(Violation::WrongMagic(magic));
        }
        match self.buffer.get(MAGIC.len()) {
            Some(version) if *version != VERSION => Err(Violation::WrongVersion(*version)),
            _ => Ok(()),
        }
    }
}

/// Removes the bit of the type that states that more fragments follow, and returns whether it was set. It remains for an
/// unknown type.
fn take_more_fragments(header: &mut [u8; HEADER_LEN]) -> bool {
    let has_more = header[TYPE_AT] & MORE_FRAGMENTS != 0;
    if has_more && FrameType::from_u8(header[TYPE_AT] & !MORE_FRAGMENTS).is_some() {
        header[TYPE_AT] &= !MORE_FRAGMENTS;
    }
    has_more
}

/// The smallest and the largest capacity of a read, in bytes.
const MIN_CHUNK: usize = 4 << 10;
const MAX_CHUNK: usize = 32 << 10;
/// The capacity that is reserved for a frame before any of its body has arrived, in bytes.
const UNPROVED: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes};
    use proptest::prelude::*;

    use super::*;

    fn frame(frame_type: FrameType, id: u32, body: &[u8]) -> Frame {
        let full_length = (HEADER_LEN + body.len()) as u32;
        Frame { header: Header { full_length, ..Header::empty(frame_type, id) }, body: Bytes::copy_from_slice(body) }
    }

    fn read_all(reader: &mut FrameReader) -> Result<Vec<Inbound>, Violation> {
        std::iter::from_fn(|| reader.next_frame().transpose()).collect()
    }

    #[test]
    fn overlong_frame_is_skipped() {
        let mut reader = FrameReader::new(100);
        let mut bytes = BytesMut::new();
        let (at, over) = (frame(FrameType::Request, 1, &[7; 84]), frame(FrameType::Request, 2, &[7; 85]));
        let after = frame(FrameType::Ping, 3, b"");
        for frame in [&at, &over, &after] {
            frame.write(&mut bytes);
        }
        reader.buffer = bytes;
        let expected = vec![Inbound::Frame(at), Inbound::Overlong(over.header), Inbound::Frame(after)];
        assert_eq!(read_all(&mut reader), Ok(expected));
    }

    #[test]
    fn skipped_frame_keeps_its_length() {
        let mut reader = FrameReader::new(100);
        let over = frame(FrameType::Request, 1, &[7; 1000]);
        over.write(&mut reader.buffer);
        reader.buffer.truncate(HEADER_LEN + 900);
        assert_eq!(reader.next_frame(), Ok(Some(Inbound::Overlong(over.header))));
        assert_eq!(reader.next_frame(), Ok(None));
        assert!(reader.is_mid_frame());
        assert_eq!(reader.frame_length(), 1016, "the deadline depends on it");
        reader.buffer.put_slice(&[7; 100]);
        assert_eq!(reader.next_frame(), Ok(None));
        assert!(!reader.is_mid_frame());
        assert_eq!(reader.frame_length(), 0);
    }

    #[test]
    fn length_above_16_limits_is_a_violation() {
        let with_length = |full_length| {
            let mut reader = FrameReader::new(100);
            let header = Header { full_length, ..Header::empty(FrameType::Request, 1) };
            reader.buffer.put_slice(&header.to_bytes());
            reader.next_frame()
        };
        assert!(with_length(1600).is_ok());
        assert_eq!(with_length(1601), Err(Violation::TooLong { length: 1601, limit: 100 }));
    }

    #[test]
    fn ping_body_is_limited_to_1_kib() {
        let with_body = |length| {
            let mut reader = FrameReader::new(FrameReader::MAX_FRAME);
            frame(FrameType::Ping, 1, &vec![0; length]).write(&mut reader.buffer);
            reader.next_frame()
        };
        assert!(with_body(1024).is_ok());
        assert_eq!(with_body(1025), Err(Violation::PingBody(1025)));
    }

    #[test]
    fn other_protocol_is_detected_by_first_byte() {
        let begun = |bytes: &[u8]| {
            let mut reader = FrameReader::new(100);
            reader.buffer.put_slice(bytes);
            reader.next_frame()
        };
        assert_eq!(begun(b"msn"), Ok(None));
        assert_eq!(begun(b"msnb\x01\0"), Ok(None));
        assert_eq!(begun(b"G"), Err(Violation::WrongMagic(*b"G\0\0\0")));
        assert_eq!(begun(b"msnb\x02"), Err(Violation::WrongVersion(2)));
    }

    #[test]
    fn length_of_an_incomplete_fragment_is_known() {
        let mut reader = FrameReader::new(1 << 20);
        let mut header = Header { full_length: 100_000, ..Header::empty(FrameType::Request, 1) }.to_bytes();
        header[TYPE_AT] |= MORE_FRAGMENTS;
        reader.buffer.put_slice(&header);
        assert_eq!(reader.next_frame(), Ok(None));
        assert_eq!(reader.frame_length(), 100_000);
    }

    #[test]
    fn announced_length_does_not_allocate() {
        let mut reader = FrameReader::new(FrameReader::MAX_FRAME);
        let header = Header { full_length: FrameReader::MAX_FRAME, ..Header::empty(FrameType::Request, 1) };
        reader.buffer.put_slice(&header.to_bytes());
        assert!(reader.read_buffer().capacity() <= 2 * UNPROVED);
        reader.buffer.clear();
        reader.release();
        assert_eq!(reader.buffer.capacity(), 0);
    }

    proptest! {
        #[test]
        fn any_split_yields_the_same_frames(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..8),
            cuts in proptest::collection::vec(1..200_usize, 0..40),
        ) {
            let frames: Vec<Frame> =
                bodies.iter().enumerate().map(|(id, body)| frame(FrameType::Request, id as u32, body)).collect();
            let mut bytes = BytesMut::new();
            frames.iter().for_each(|frame| frame.write(&mut bytes));
            let mut reader = FrameReader::new(1000);
            let (mut found, mut cuts) = (Vec::new(), cuts.into_iter());
            while !bytes.is_empty() {
                let cut = cuts.next().unwrap_or(bytes.len()).min(bytes.len());
                reader.read_buffer().put_slice(&bytes.split_to(cut));
                reader.filled(cut);
                found.extend(read_all(&mut reader).unwrap());
                reader.release();
            }
            prop_assert_eq!(found, frames.into_iter().map(Inbound::Frame).collect::<Vec<_>>());
            prop_assert!(!reader.is_mid_frame());
        }

        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), good in 0..17_usize) {
            let mut reader = FrameReader::new(64);
            let header = Header::empty(FrameType::Request, 1).to_bytes();
            reader.buffer.put_slice(&header[..good.min(HEADER_LEN)]);
            reader.buffer.put_slice(&bytes);
            let _ = read_all(&mut reader);
        }
    }
}
