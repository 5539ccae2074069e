//! Zero-copy transfer of long [`Bytes`].
//!
//! A sender transfers them from the arguments to the socket, a receiver from the payload to the handler.
//!
//! Parameters and results of type `Bytes` are transferred in this way. For a field of a struct, add
//! `#[serde(with = "rpc_core::uncopied")]`, which does not change the wire format:
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
//! Only bytes of at least 16 KiB are shared, because shorter ones cost less to copy, and only without compression: with
//! the codecs raw and bincode on both ends, and with MessagePack on the sending end. All others are copied. Received
//! bytes share the memory of their payload if they are at least a quarter of it. The allocation may be twice as long as
//! the payload, so a handler that keeps such bytes keeps at most about eight times their length.

use std::{cell::RefCell, fmt};

use bytes::Bytes;
use serde::{
    Deserializer, Serializer,
    de::{Error, SeqAccess, Visitor},
};

/// Serializes bytes in the format of [`Bytes`], without copying long ones.
///
/// # Errors
///
/// The error of the serializer.
pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    let _lent = lend(bytes);
    serializer.serialize_bytes(bytes)
}

/// Deserializes bytes in the format of [`Bytes`], without copying long ones.
///
/// # Errors
///
/// The error of the deserializer.
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
    /// The owner of the slices that serde passes on this thread.
    ///
    /// It is the bytes that are being serialized, or the payload that is being deserialized. Serde's interfaces carry
    /// only slices.
    static LENT: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// Lends `bytes` to [`lent`] on this thread until the guard is dropped. Returns `None` for short bytes.
pub(crate) fn lend(bytes: &Bytes) -> Option<Lent> {
    (bytes.len() >= MIN_SHARED).then(|| Lent { before: LENT.replace(Some(bytes.clone())) })
}

/// Restores the previously lent bytes on drop.
pub(crate) struct Lent {
    before: Option<Bytes>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        LENT.set(self.before.take());
    }
}

/// Returns `bytes` as a part of the lent [`Bytes`], if they are such a part and long enough.
pub(crate) fn lent(bytes: &[u8]) -> Option<Bytes> {
    LENT.with_borrow(|lent| {
        let lent = lent.as_ref()?;
        let (whole, part) = (lent.as_ptr_range(), bytes.as_ptr_range());
        let is_part = whole.start <= part.start && part.end <= whole.end;
        let is_long = bytes.len() >= MIN_SHARED.max(lent.len() / MAX_KEPT_RATIO);
        (is_part && is_long).then(|| lent.slice_ref(bytes))
    })
}

/// The shortest bytes that are shared and not copied.
pub(crate) const MIN_SHARED: usize = 16 << 10;
/// The largest ratio of the length of a payload to the length of a part that shares its memory.
const MAX_KEPT_RATIO: usize = 4;

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
    fn wire_format_equals_that_of_serde_bytes() {
        #[derive(Serialize)]
        struct Copied<'a> {
            title: &'a str,
            pixels: &'a Bytes,
        }
        for (codec, length) in [Codec::Bincode, Codec::Json, Codec::MessagePack]
            .into_iter()
            .flat_map(|codec| [0, 1, MIN_SHARED - 1, MIN_SHARED, 3 * MIN_SHARED].map(|length| (codec, length)))
        {
            let picture = picture(length);
            let mut expected = bytes::BytesMut::new();
            codec.encode(&Copied { title: &picture.title, pixels: &picture.pixels }, &mut expected).unwrap();
            let found = written(codec, &picture);
            assert_eq!(
                found.only_chunk().is_none(),
                length >= MIN_SHARED && codec != Codec::Json,
                "{codec:?} {length}"
            );
            let found = found.into_bytes();
            assert_eq!(found, expected);
            assert_eq!(read(codec, &found), picture);
        }
    }

    #[test]
    fn long_bytes_share_the_payload() {
        for length in [MIN_SHARED - 1, MIN_SHARED] {
            let payload = written(Codec::Bincode, &picture(length)).into_bytes();
            let pixels = read(Codec::Bincode, &payload).pixels;
            let whole = payload.as_ptr_range();
            assert_eq!(whole.contains(&pixels.as_ptr()), length >= MIN_SHARED);
        }
        assert!(LENT.take().is_none());
    }

    #[test]
    fn small_part_does_not_share_the_payload() {
        #[derive(Serialize, Deserialize)]
        struct Parts(#[serde(with = "super")] Bytes, #[serde(with = "super")] Bytes);
        let parts = Parts(vec![1; MIN_SHARED].into(), vec![2; 4 * MIN_SHARED].into());
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
