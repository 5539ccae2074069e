//! [`EncodedPayload`]: a serialized and compressed value that is not sent yet.

use std::cell::Cell;

use super::{codec::Codec, compression::Compression, encode::Encode, payload::LONG, write_buffer::WriteBuffer};
use crate::{Code, Status};

/// A serialized and compressed value that is not sent yet.
///
/// User code (`Serialize`) and compression run while it is created, and under no lock. A frame then takes its bytes
/// with few operations: long ones are handed over, short ones are copied.
#[derive(Debug)]
pub struct EncodedPayload {
    codec: Codec,
    compression: Compression,
    /// The compression that [`compressed`](Self::compressed) tries.
    wanted: Compression,
    /// A buffer of this thread, which the thread reuses after [`append_to`](Self::append_to).
    buffer: Box<WriteBuffer>,
}

impl EncodedPayload {
    /// Serializes `value`, and compresses it if it is long enough and becomes shorter.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the value does not serialize, `Unimplemented` if this build does not support the
    /// compression.
    pub fn new<T: Encode + ?Sized>(value: &T, codec: Codec, compression: Compression) -> Result<Self, Status> {
        Ok(Self::uncompressed(value, codec, compression)?.compressed())
    }

    /// As [`new`](Self::new), but leaves the compression to [`compressed`](Self::compressed).
    pub(crate) fn uncompressed<T: Encode + ?Sized>(
        value: &T,
        codec: Codec,
        wanted: Compression,
    ) -> Result<Self, Status> {
        if wanted != Compression::None {
            // This build may lack a compression that the caller chose.
            Compression::from_u8(wanted as u8)?;
        }
        // Taken and not borrowed: a `Serialize` may make a call of its own.
        let mut buffer = SPARE.take().unwrap_or_default();
        // Compression needs the payload as one contiguous slice.
        buffer.copy_all(wanted != Compression::None);
        match value.encode(codec, &mut buffer) {
            Ok(()) => Ok(Self { codec, compression: Compression::None, wanted, buffer }),
            Err(error) => {
                let message = format!("the value does not encode as {}: {error}", codec.name());
                Err(Status::new(Code::InvalidArgument, message))
            }
        }
    }

    /// Returns whether the compression is still to be done and takes long.
    pub(crate) fn is_long_to_compress(&self) -> bool {
        self.wanted != Compression::None && self.len() >= LONG
    }

    /// Compresses the payload if it is long enough and becomes shorter.
    #[inline]
    pub(crate) fn compressed(mut self) -> Self {
        let wanted = std::mem::take(&mut self.wanted);
        if wanted != Compression::None {
            self.compression = wanted.compress_tail(self.buffer.copied(), 0);
        }
        self.buffer.hold_long_copies(MAX_SPARE);
        self
    }

    /// Returns the codec.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Returns the compression that was applied.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Returns whether the payload is so short that encoding it took little time.
    pub fn is_short(&self) -> bool {
        self.len() <= MAX_SHORT
    }

    /// Returns the number of bytes.
    #[expect(clippy::len_without_is_empty, reason = "nothing asks whether a payload is empty")]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Releases the memory that the payload does not need, because it will be kept for a while.
    pub fn shrink(&mut self) {
        self.buffer.shrink();
    }

    /// Moves the bytes to the end of `out`.
    #[inline(always)]
    pub(crate) fn append_to(mut self, out: &mut WriteBuffer) {
        out.append(&mut self.buffer);
        if self.buffer.copied().capacity() <= MAX_SPARE {
            SPARE.set(Some(self.buffer));
        }
    }
}

thread_local! {
    /// The buffer for the next payload that this thread encodes.
    static SPARE: Cell<Option<Box<WriteBuffer>>> = const { Cell::new(None) };
}

/// The length of the longest payload that is [short](EncodedPayload::is_short), in bytes.
const MAX_SHORT: usize = 4 << 10;
/// The largest capacity of the buffer that a thread keeps for its next payload, in bytes.
const MAX_SPARE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use bytes::{Buf, Bytes};
    use serde::{Serialize, Serializer};

    use super::*;
    use crate::uncopied;

    fn appended(payload: EncodedPayload) -> Bytes {
        let mut out = WriteBuffer::new();
        out.copied().extend_from_slice(b"before");
        payload.append_to(&mut out);
        out.copied().extend_from_slice(b"after");
        let bytes = out.copy_to_bytes(out.len());
        assert!(bytes.starts_with(b"before") && bytes.ends_with(b"after"));
        bytes.slice(6..bytes.len() - 5)
    }

    #[derive(Serialize)]
    struct Mixed {
        title: String,
        #[serde(with = "crate::uncopied")]
        pixels: Bytes,
        comment: String,
    }

    #[test]
    fn bytes_equal_those_of_the_codec() {
        for codec in [Codec::Bincode, Codec::Json, Codec::MessagePack] {
            for length in [1, uncopied::MIN_SHARED - 1, uncopied::MIN_SHARED, MAX_SPARE, 3 * MAX_SPARE] {
                let (title, pixels) = ("t".repeat(length), vec![7; length].into());
                let value = Mixed { title, pixels, comment: "c".repeat(length) };
                let mut expected = bytes::BytesMut::new();
                codec.encode(&value, &mut expected).unwrap();
                let payload = EncodedPayload::new(&value, codec, Compression::None).unwrap();
                assert_eq!(payload.len(), expected.len());
                assert_eq!(appended(payload), expected, "{codec:?} {length}");
                let mut kept = EncodedPayload::new(&value, codec, Compression::None).unwrap();
                kept.shrink();
                assert_eq!(appended(kept), expected, "{codec:?} {length}");
            }
        }
    }

    #[test]
    fn long_payload_is_handed_over_and_short_one_copied() {
        for length in [uncopied::MIN_SHARED - 9, uncopied::MIN_SHARED] {
            let payload = EncodedPayload::new(&"t".repeat(length), Codec::Bincode, Compression::None).unwrap();
            let mut out = WriteBuffer::new();
            payload.append_to(&mut out);
            assert_eq!(out.copied().is_empty(), length >= uncopied::MIN_SHARED);
        }
        assert!(SPARE.take().unwrap().copied().capacity() <= MAX_SPARE);
    }

    #[test]
    fn serialize_may_encode_another_payload() {
        struct Nested;
        impl Serialize for Nested {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let inner = EncodedPayload::new(&"inner", Codec::Json, Compression::None).unwrap();
                assert_eq!(appended(inner), "\"inner\"");
                serializer.serialize_str("outer")
            }
        }
        for _ in 0..2 {
            let outer = EncodedPayload::new(&[Nested, Nested], Codec::Json, Compression::None).unwrap();
            assert_eq!(appended(outer), r#"["outer","outer"]"#);
        }
    }

    #[test]
    fn failed_value_leaves_no_bytes_behind() {
        struct Fails;
        impl Serialize for Fails {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("never serializes"))
            }
        }
        let failed = EncodedPayload::new(&("half", Fails), Codec::Bincode, Compression::None).unwrap_err();
        assert_eq!(failed.code(), Code::InvalidArgument);
        let next = EncodedPayload::new(&7_u8, Codec::Bincode, Compression::None).unwrap();
        assert_eq!(appended(next), [7][..]);
    }
}
