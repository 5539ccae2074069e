//! Long [`Bytes`] that are passed on as they are: from the arguments into the socket, and out of what was read into the handler.
//!
//! A parameter or result whose type is written `Bytes` is passed so by itself. A field of one's own struct is with
//! `#[serde(with = "rpc_core::uncopied")]`, which changes nothing on the wire:
//!
//! ```
//! use bytes::Bytes;
//! use rpc_core::rpc_service;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! pub struct Picture {
//!     title: String,
//!     #[serde(with = "rpc_core::uncopied")]
//!     pixels: Bytes,
//! }
//!
//! #[rpc_service(name = "demo.Pictures", version = "1.0")]
//! pub trait Pictures {
//!     async fn keep(&self, picture: Picture, thumbnail: Bytes);
//! }
//! ```
//!
//! That holds for bytes from 16 KiB on, which cost more to copy than to share, uncompressed, with the codecs raw and bincode on both
//! ends and with MessagePack for who sends. All others are copied. Bytes that were received share the memory of their payload, of
//! which they are a quarter at least, and which may have room for as much again: who keeps them keeps at most about eight times their
//! length.

use std::{cell::RefCell, fmt};

use bytes::Bytes;
use serde::{
    Deserializer, Serializer,
    de::{Error, SeqAccess, Visitor},
};

/// Serializes bytes like [`Bytes`] does; long ones are not copied.
///
/// # Errors
///
/// The serializer's.
pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    let _lent = lend(bytes);
    serializer.serialize_bytes(bytes)
}

/// Reads bytes like [`Bytes`] does; long ones are not copied.
///
/// # Errors
///
/// The deserializer's.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    deserializer.deserialize_bytes(BytesVisitor)
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(lent(bytes).unwrap_or_else(|| Bytes::copy_from_slice(bytes)))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
        Ok(bytes.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
        self.visit_bytes(text.as_bytes())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Bytes, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = sequence.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes.into())
    }
}

thread_local! {
    /// Serde passes slices on. This is whose slices they may be: the bytes that are being serialized, or the payload that is being
    /// read.
    static LENT: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// Lends `bytes` until the guard is dropped, to who serializes or reads on this thread.
pub(crate) fn lend(bytes: &Bytes) -> Option<Lent> {
    (bytes.len() >= LEAST).then(|| Lent { before: LENT.replace(Some(bytes.clone())) })
}

/// Restores on drop what was lent before.
pub(crate) struct Lent {
    before: Option<Bytes>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        LENT.set(self.before.take());
    }
}

/// The same bytes as their owner has them, if they are lent and long enough.
pub(crate) fn lent(bytes: &[u8]) -> Option<Bytes> {
    LENT.with_borrow(|lent| {
        let lent = lent.as_ref()?;
        let (whole, part) = (lent.as_ptr_range(), bytes.as_ptr_range());
        let is_part = whole.start <= part.start && part.end <= whole.end;
        let is_long = bytes.len() >= LEAST.max(lent.len() / MOST_KEPT);
        (is_part && is_long).then(|| lent.slice_ref(bytes))
    })
}

/// The fewest bytes that are worth more than a copy.
pub(crate) const LEAST: usize = 16 << 10;
/// How many times its own length a part may keep alive.
const MOST_KEPT: usize = 4;

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::{Codec, Compression, Payload, WriteBuffer};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Picture {
        title: String,
        #[serde(with = "super")]
        pixels: Bytes,
    }

    fn picture(length: usize) -> Picture {
        Picture { title: "t".repeat(100), pixels: (0..length).map(|at| at as u8).collect() }
    }

    fn written(codec: Codec, picture: &Picture) -> WriteBuffer {
        let mut out = WriteBuffer::new();
        codec.encode_into(picture, &mut out).unwrap();
        out
    }

    fn read(codec: Codec, bytes: &Bytes) -> Picture {
        let (codec, compression) = (codec as u8, Compression::None as u8);
        let payload = Payload { codec, compression, bytes: bytes.clone(), max_decompressed: 1 << 20 };
        payload.decode().unwrap()
    }

    #[test]
    fn the_bytes_on_the_wire_are_those_of_serde_bytes() {
        #[derive(Serialize)]
        struct Copied<'a> {
            title: &'a str,
            pixels: &'a Bytes,
        }
        for (codec, length) in [Codec::Bincode, Codec::Json, Codec::MessagePack]
            .into_iter()
            .flat_map(|codec| [0, 1, LEAST - 1, LEAST, 3 * LEAST].map(|length| (codec, length)))
        {
            let picture = picture(length);
            let mut expected = bytes::BytesMut::new();
            codec.encode(&Copied { title: &picture.title, pixels: &picture.pixels }, &mut expected).unwrap();
            let found = written(codec, &picture);
            assert_eq!(found.only_chunk().is_none(), length >= LEAST && codec != Codec::Json, "{codec:?} {length}");
            let found = found.into_bytes();
            assert_eq!(found, expected);
            assert_eq!(read(codec, &found), picture);
        }
    }

    #[test]
    fn long_bytes_are_parts_of_what_was_read_and_short_ones_are_not() {
        for length in [LEAST - 1, LEAST] {
            let payload = written(Codec::Bincode, &picture(length)).into_bytes();
            let pixels = read(Codec::Bincode, &payload).pixels;
            let whole = payload.as_ptr_range();
            assert_eq!(whole.contains(&pixels.as_ptr()), length >= LEAST);
        }
        assert!(LENT.take().is_none());
    }

    #[test]
    fn a_small_part_does_not_keep_the_whole() {
        #[derive(Serialize, Deserialize)]
        struct Parts(#[serde(with = "super")] Bytes, #[serde(with = "super")] Bytes);
        let parts = Parts(vec![1; LEAST].into(), vec![2; 4 * LEAST].into());
        let mut out = WriteBuffer::new();
        Codec::Bincode.encode_into(&parts, &mut out).unwrap();
        let bytes = out.into_bytes();
        let payload = Payload {
            codec: Codec::Bincode as u8,
            compression: Compression::None as u8,
            bytes: bytes.clone(),
            max_decompressed: 0,
        };
        let Parts(small, large) = payload.decode().unwrap();
        let whole = bytes.as_ptr_range();
        assert!(!whole.contains(&small.as_ptr()) && whole.contains(&large.as_ptr()));
    }
}
