//! [`Message`]: a frame with a head and a value, written straight into a connection's outbox.

use bytes::BytesMut;
use serde::Serialize;

use crate::{
    Code, Codec, Compression, Status,
    frame::{CODEC_AT, FrameType, Header, write_frame},
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
    pub fn write(&self, out: &mut BytesMut, write_head: impl FnOnce(&mut BytesMut)) -> Result<(), Status> {
        let frame_at = out.len();
        let header = Header { codec: self.codec as u8, ..Header::empty(self.frame_type, self.id) };
        let mut compressed = Compression::None;
        write_frame(out, header, |out| {
            write_head(out);
            let payload_at = out.len();
            self.codec.encode(self.value, out).map_err(|error| {
                Status::new(
                    Code::InvalidArgument,
                    format!("the value does not encode as {}: {error}", self.codec.name()),
                )
            })?;
            if self.compression != Compression::None {
                compressed = self.compression.compress_tail(out, payload_at);
            }
            let length = out.len() - frame_at;
            if length > self.max_frame {
                let message = format!("the frame would have {length} bytes, over the limit of {}", self.max_frame);
                return Err(Status::new(Code::ResourceExhausted, message));
            }
            Ok(())
        })?;
        out[frame_at + CODEC_AT + 1] = compressed as u8;
        Ok(())
    }
}
