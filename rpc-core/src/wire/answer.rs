//! Writes answers as RESPONSE frames.

use bytes::{BufMut, BytesMut};

use super::{
    frame::{Frame, FrameType, HEADER_LEN, Header},
    head::ResponseHead,
    message::Message,
};
use crate::{AnswerTarget, Code, Codec, Compression, Encode, Metadata, Status, StatusAnswer, WriteBuffer};

/// Appends a result or an error value, with the metadata of the answer.
///
/// If the value does not encode or exceeds the frame limit, appends the status of that failure instead. Returns the
/// code of the answer that was appended.
pub(crate) fn write(
    out: &mut WriteBuffer,
    target: &AnswerTarget,
    metadata: &Metadata,
    status: &Status,
    value: &dyn Encode,
) -> Code {
    let written = Codec::from_u8(target.codec).and_then(|codec| {
        let compression = Compression::from_u8(target.compression)?;
        let (id, max_frame) = (target.id, target.max_frame);
        let message = Message { frame_type: FrameType::Response, id, codec, compression, value, max_frame };
        message.write_encoded(out, |out| write_head(out, metadata, status), |out| value.encode(codec, out))
    });
    let Err(failed) = written else { return status.code() };
    // The handler executed, so a value that does not encode is the callee's fault and not the caller's; and
    // `Unimplemented`, for a format that this build does not support, would state that it did not execute.
    let code = match failed.code() {
        Code::InvalidArgument | Code::Unimplemented => Code::Internal,
        code => code,
    };
    let failure = StatusAnswer::handled(Status::new(code, failed.message().to_owned()));
    write_status(out.copied(), target, metadata, &failure);
    code
}

/// Appends a status without a value.
pub(crate) fn write_status(out: &mut BytesMut, target: &AnswerTarget, metadata: &Metadata, answer: &StatusAnswer) {
    let header = Header { codec: target.codec, ..Header::empty(FrameType::Response, target.id) };
    let mut body = BytesMut::new();
    head(metadata, answer.clone()).write(&mut body);
    Frame { header, body: body.freeze() }.write(out);
}

/// Appends the head of a value. Most answers have an empty one, which skips the general path.
fn write_head(out: &mut BytesMut, metadata: &Metadata, status: &Status) {
    if status.code() == Code::Ok && metadata.is_empty() {
        return out.put_u16(0);
    }
    head(metadata, StatusAnswer::handled(status.clone())).write(out);
}

fn head(metadata: &Metadata, answer: StatusAnswer) -> ResponseHead {
    let StatusAnswer { status, retry_after, not_executed } = answer;
    ResponseHead { status, metadata: metadata.clone(), retry_after, not_executed }
}

/// A response with only a status of the longest message and the longest metadata fits into every frame limit.
///
/// The other entries of a head have at most 16 bytes.
const _: () = assert!(HEADER_LEN + 2 + 4 + Status::MAX_MESSAGE + 3 + Metadata::MAX_LEN + 16 < u16::MAX as usize);
