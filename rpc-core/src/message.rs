//! [`Message`]: a frame with a head and a value, written straight into a connection's outbox.

use bytes::BytesMut;
use serde::Serialize;

use crate::{
    Code, Codec, Compression, Mark, Status, WriteBuffer,
    frame::{FrameType, HEADER_LEN, Header},
};

/// A request or a response before it is bytes.
#[derive(Debug)]
pub struct Message<'a, T: ?Sized> {
    /// Request or response.
    pub frame_type: FrameType,
    /// The call that it belongs to.
    pub id: u32,
    /// How the value is serialized.
    pub codec: Codec,
    /// How the value is compressed, if it is long enough and becomes smaller.
    pub compression: Compression,
    /// Arguments, result or error value.
    pub value: &'a T,
    /// The longest frame that may come of it, in bytes.
    pub max_frame: usize,
}

impl<T: Serialize + ?Sized> Message<'_, T> {
    /// Appends the frame to `out`; `write_head` appends its head. After an error, `out` is as before.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a value that does not serialize, `ResourceExhausted` for a frame over the limit.
    pub fn write(&self, out: &mut WriteBuffer, write_head: impl FnOnce(&mut BytesMut)) -> Result<(), Status> {
        let start = out.mark();
        // Room for the header, which tells of what follows it.
        out.copied().extend_from_slice(&[0; HEADER_LEN]);
        write_head(out.copied());
        let header = self.write_payload(out, start).inspect_err(|_| out.rewind(start))?;
        out.copied_since(start)[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        Ok(())
    }

    /// Appends the payload; gives the header of the frame that was begun at `start`.
    fn write_payload(&self, out: &mut WriteBuffer, start: Mark) -> Result<Header, Status> {
        let payload_at = out.copied().len();
        let mut compression = self.compression;
        // Who compresses needs it in one piece.
        out.copy_all(compression != Compression::None);
        self.codec.encode_into(self.value, out).map_err(|error| {
            Status::new(Code::InvalidArgument, format!("the value does not encode as {}: {error}", self.codec.name()))
        })?;
        if compression != Compression::None {
            compression = compression.compress_tail(out.copied(), payload_at);
        }
        let length = out.length_since(start);
        if length > self.max_frame {
            let message = format!("the frame would have {length} bytes, over the limit of {}", self.max_frame);
            return Err(Status::new(Code::ResourceExhausted, message));
        }
        let (codec, compression) = (self.codec as u8, compression as u8);
        Ok(Header { full_length: length as u32, frame_type: self.frame_type, codec, compression, id: self.id })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde::{Serializer, ser::Error as _};

    use super::*;

    #[derive(Serialize)]
    struct Half {
        #[serde(with = "crate::uncopied")]
        long: Bytes,
        #[serde(serialize_with = "fail")]
        fails: (),
    }

    #[derive(Serialize)]
    struct Long<'a>(#[serde(with = "crate::uncopied")] &'a Bytes);

    fn fail<S: Serializer>(_: &(), _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("it cannot be said"))
    }

    #[test]
    fn what_fails_leaves_nothing_behind() {
        let mut out = WriteBuffer::new();
        out.copied().extend_from_slice(b"before");
        let value = Half { long: vec![7; 20_000].into(), fails: () };
        let (frame_type, id, codec) = (FrameType::Request, 1, Codec::Bincode);
        for compression in [Compression::None, Compression::Zstd] {
            let message = Message { frame_type, id, codec, compression, value: &value, max_frame: 1 << 20 };
            let failed = message.write(&mut out, |out| out.extend_from_slice(b"head")).unwrap_err();
            assert_eq!((failed.code(), out.only_chunk()), (Code::InvalidArgument, Some(&b"before"[..])));
        }
        let compression = Compression::None;
        let message = Message { frame_type, id, codec, compression, value: &Long(&value.long), max_frame: 1000 };
        let failed = message.write(&mut out, |out| out.extend_from_slice(b"head")).unwrap_err();
        assert_eq!((failed.code(), out.into_bytes()), (Code::ResourceExhausted, Bytes::from_static(b"before")));
    }
}
