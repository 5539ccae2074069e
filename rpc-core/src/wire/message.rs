//! [`Message`]: a frame that consists of a head and a payload.

use bytes::BytesMut;

use super::frame::{FrameType, HEADER_LEN, Header};
use crate::{Code, EncodedPayload, Status, WriteBuffer};

/// A request or a response whose frame is not written yet.
#[derive(Debug)]
pub struct Message {
    /// Request or response.
    pub frame_type: FrameType,
    /// The id of the call.
    pub id: u32,
    /// The arguments, the result or the error value.
    pub payload: EncodedPayload,
    /// The longest frame that may be written, in bytes.
    pub max_frame: usize,
}

impl Message {
    /// Appends the frame to `out`; `write_head` appends its head. After an error, `out` is unchanged.
    ///
    /// Runs no user code, so the caller may hold the lock of an outbox.
    ///
    /// # Errors
    ///
    /// `ResourceExhausted` if the frame is longer than the limit.
    pub fn write(self, out: &mut WriteBuffer, write_head: impl FnOnce(&mut BytesMut)) -> Result<(), Status> {
        let Self { frame_type, id, payload, max_frame } = self;
        let start = out.mark();
        // Reserve the header, which is written last because it contains the length.
        out.copied().extend_from_slice(&[0; HEADER_LEN]);
        write_head(out.copied());
        let length = out.length_since(start) + payload.len();
        let Some(full_length) = u32::try_from(length).ok().filter(|_| length <= max_frame) else {
            out.rewind(start);
            let message = format!("frame is {length} bytes, limit is {max_frame} (TransportConfig::max_frame)");
            return Err(Status::new(Code::ResourceExhausted, message));
        };
        let (codec, compression) = (payload.codec() as u8, payload.compression() as u8);
        let header = Header { full_length, frame_type, codec, compression, id };
        out.copied_since(start)[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        payload.append_to(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Codec, Compression};

    #[test]
    fn frame_over_the_limit_leaves_buffer_unchanged() {
        for (length, max_frame) in [(10, 16 + 4 + 17), (20_000, 1000)] {
            let value = "t".repeat(length);
            let write = |out: &mut WriteBuffer, max_frame| {
                let payload = EncodedPayload::new(&value, Codec::Bincode, Compression::None).unwrap();
                let message = Message { frame_type: FrameType::Request, id: 1, payload, max_frame };
                message.write(out, |out| out.extend_from_slice(b"head"))
            };
            let mut out = WriteBuffer::new();
            out.copied().extend_from_slice(b"before");
            assert_eq!(write(&mut out, max_frame).unwrap_err().code(), Code::ResourceExhausted);
            assert_eq!(out.only_chunk(), Some(&b"before"[..]));
            write(&mut out, 16 + 4 + 8 + length).unwrap();
            let bytes = out.into_bytes();
            assert_eq!(Header::parse(bytes[6..].first_chunk().unwrap()).unwrap().full_length as usize, 28 + length);
            assert_eq!(bytes.len(), 6 + 28 + length);
            assert_eq!(bytes.slice(22..26), Bytes::from_static(b"head"));
        }
    }
}
