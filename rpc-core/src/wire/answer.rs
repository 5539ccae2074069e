//! Writes answers as RESPONSE frames.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::{
    frame::{Frame, FrameType, HEADER_LEN, Header},
    head::ResponseHead,
    message::Message,
};
use crate::{AnswerTarget, Code, Codec, Compression, Encode, Status, WriteBuffer};

/// Appends a result or an error value.
///
/// If the value does not encode or exceeds the frame limit, appends the status of that failure instead. Returns the
/// code of the answer that was appended.
pub(crate) fn write(out: &mut WriteBuffer, target: &AnswerTarget, status: &Status, value: &dyn Encode) -> Code {
    let written = Codec::from_u8(target.codec).and_then(|codec| {
        let compression = Compression::from_u8(target.compression)?;
        let (id, max_frame) = (target.id, target.max_frame);
        let message = Message { frame_type: FrameType::Response, id, codec, compression, value, max_frame };
        message.write_encoded(out, |out| write_head(out, status, None), |out| value.encode(codec, out))
    });
    let Err(failed) = written else { return status.code() };
    // The handler executed, so a value that does not encode is the callee's fault and not the caller's; and
    // `Unimplemented`, for a format that this build does not support, would state that it did not execute.
    let code = match failed.code() {
        Code::InvalidArgument | Code::Unimplemented => Code::Internal,
        code => code,
    };
    write_status(out.copied(), target, &Status::new(code, failed.message().to_owned()), None);
    code
}

/// Appends a status without a value.
pub(crate) fn write_status(out: &mut BytesMut, target: &AnswerTarget, status: &Status, retry_after: Option<Duration>) {
    let header = Header { codec: target.codec, ..Header::empty(FrameType::Response, target.id) };
    let mut body = BytesMut::new();
    write_head(&mut body, status, retry_after);
    Frame { header, body: body.freeze() }.write(out);
}

/// Appends a head. Most answers have an empty one, which skips the general path.
fn write_head(out: &mut BytesMut, status: &Status, retry_after: Option<Duration>) {
    if status.code() == Code::Ok && retry_after.is_none() {
        return out.put_u16(0);
    }
    ResponseHead { status: status.clone(), metadata: Default::default(), retry_after }.write(out);
}

/// A response with only a status of the longest message fits into every frame limit.
const _: () = assert!(HEADER_LEN + 2 + 4 + Status::MAX_MESSAGE < u16::MAX as usize);
