//! [`Message`]: a frame that consists of a head and a value.

use bytes::BytesMut;

use super::frame::{FrameType, HEADER_LEN, Header};
use crate::{Code, Codec, CodecError, Compression, Encode, Mark, Status, WriteBuffer};

/// A request or a response that is not encoded yet.
#[derive(Debug)]
pub struct Message<'a, T: ?Sized> {
    /// Request or response.
    pub frame_type: FrameType,
    /// The id of the call.
    pub id: u32,
    /// The codec of the value.
    pub codec: Codec,
    /// The compression of the value, applied if the value is long enough and becomes shorter.
    pub compression: Compression,
    /// The arguments, the result or the error value.
    pub value: &'a T,
    /// The longest frame that may be written, in bytes.
    pub max_frame: usize,
}

impl<T: ?Sized> Message<'_, T> {
    /// Appends the frame to `out`; `write_head` appends its head. After an error, `out` is unchanged.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the value does not serialize, `ResourceExhausted` if the frame is longer than the limit,
    /// `Unimplemented` if this build does not support the compression.
    pub fn write(&self, out: &mut WriteBuffer, write_head: impl FnOnce(&mut BytesMut)) -> Result<(), Status>
    where
        T: Encode,
    {
        // This build may lack a compression that the caller chose.
        Compression::from_u8(self.compression as u8)?;
        self.write_encoded(out, write_head, |out| self.value.encode(self.codec, out))
    }

    /// As [`write`](Self::write); `encode` appends the value in this message's codec.
    pub(crate) fn write_encoded(
        &self,
        out: &mut WriteBuffer,
        write_head: impl FnOnce(&mut BytesMut),
        encode: impl FnOnce(&mut WriteBuffer) -> Result<(), CodecError>,
    ) -> Result<(), Status> {
        let start = out.mark();
        // Reserve the header, which is written last because it contains the length.
        out.copied().extend_from_slice(&[0; HEADER_LEN]);
        write_head(out.copied());
        let header = self.write_payload(out, start, encode).inspect_err(|_| out.rewind(start))?;
        out.copied_since(start)[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        Ok(())
    }

    /// Appends the payload. Returns the header of the frame that starts at `start`.
    fn write_payload(
        &self,
        out: &mut WriteBuffer,
        start: Mark,
        encode: impl FnOnce(&mut WriteBuffer) -> Result<(), CodecError>,
    ) -> Result<Header, Status> {
        let payload_at = out.copied().len();
        let mut compression = self.compression;
        // Compression needs the payload as one contiguous slice.
        out.copy_all(compression != Compression::None);
        encode(out).map_err(|error| {
            Status::new(Code::InvalidArgument, format!("the value does not encode as {}: {error}", self.codec.name()))
        })?;
        if compression != Compression::None {
            compression = compression.compress_tail(out.copied(), payload_at);
        }
        let length = out.length_since(start);
        if length > self.max_frame {
            let message = format!("frame is {length} bytes, limit is {} (TransportConfig::max_frame)", self.max_frame);
            return Err(Status::new(Code::ResourceExhausted, message));
        }
        let (codec, compression) = (self.codec as u8, compression as u8);
        Ok(Header { full_length: length as u32, frame_type: self.frame_type, codec, compression, id: self.id })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde::{Serialize, Serializer, ser::Error as _};

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
        Err(S::Error::custom("this field never serializes"))
    }

    #[test]
    fn failed_write_leaves_buffer_unchanged() {
        let mut out = WriteBuffer::new();
        out.copied().extend_from_slice(b"before");
        let value = Half { long: vec![7; 20_000].into(), fails: () };
        let (frame_type, id, codec) = (FrameType::Request, 1, Codec::Bincode);
        for &compression in Compression::SUPPORTED {
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
