//! Writes answers as RESPONSE frames.

use bytes::{BufMut, BytesMut};

use super::{
    frame::{Frame, FrameType, HEADER_LEN, Header},
    head::ResponseHead,
    message::Message,
};
use crate::{AnswerTarget, Code, EncodedAnswer, Metadata, Status, StatusAnswer, WriteBuffer};

/// Appends an answer, whose payload is taken, with its metadata.
///
/// If it exceeds the frame limit, appends the status of that failure instead. Returns the code of the answer that was
/// appended.
pub(crate) fn write(
    out: &mut WriteBuffer,
    target: &AnswerTarget,
    metadata: Option<&Metadata>,
    answer: &mut EncodedAnswer,
) -> Code {
    let EncodedAnswer { status, payload } = answer;
    if let Some(payload) = payload.take() {
        let message = Message { frame_type: FrameType::Response, id: target.id, payload, max_frame: target.max_frame };
        match message.write(out, |out| write_head(out, metadata, status)) {
            Ok(()) => return status.code(),
            Err(failed) => *status = EncodedAnswer::unsendable(&failed).status,
        }
    }
    let code = status.code();
    write_status(out.copied(), target, metadata, &StatusAnswer::handled(status.clone()));
    code
}

/// Appends a status without a value.
pub(crate) fn write_status(
    out: &mut BytesMut,
    target: &AnswerTarget,
    metadata: Option<&Metadata>,
    answer: &StatusAnswer,
) {
    let header = Header { codec: target.codec, ..Header::empty(FrameType::Response, target.id) };
    let mut body = BytesMut::new();
    head(metadata, answer.clone()).write(&mut body);
    Frame { header, body: body.freeze() }.write(out);
}

/// Appends the head of a value. Most answers have an empty one, which skips the general path.
fn write_head(out: &mut BytesMut, metadata: Option<&Metadata>, status: &Status) {
    if status.code() == Code::Ok && metadata.is_none_or(Metadata::is_empty) {
        return out.put_u16(0);
    }
    head(metadata, StatusAnswer::handled(status.clone())).write(out);
}

fn head(metadata: Option<&Metadata>, answer: StatusAnswer) -> ResponseHead {
    let StatusAnswer { status, not_executed } = answer;
    ResponseHead {
        retry_after: status.retry_after(),
        status,
        metadata: metadata.cloned().unwrap_or_default(),
        not_executed,
    }
}

/// A response with only a status of the longest message and the longest metadata fits into every frame limit.
///
/// The other entries of a head have at most 16 bytes.
const _: () = assert!(HEADER_LEN + 2 + 4 + Status::MAX_MESSAGE + 3 + Metadata::MAX_LEN + 16 < u16::MAX as usize);
