//! Writes answers as RESPONSE frames, or as the END of an accepted call.

use bytes::{BufMut, BytesMut};

use super::{
    frame::{Frame, FrameType, HEADER_LEN, Header},
    head::ResponseHead,
    message::Message,
};
use crate::{AnswerTarget, Code, Context, EncodedAnswer, Metadata, Status, StatusAnswer, WriteBuffer};

/// Returns the type of the frame that answers a call: its END if the call was accepted and has a stream.
pub(crate) fn frame_type(target: &AnswerTarget, context: &Context) -> FrameType {
    if target.expects_items && context.is_accepted() { FrameType::CalleeEnd } else { FrameType::Response }
}

/// Appends an answer, whose payload is taken, with its metadata.
///
/// If it exceeds the frame limit, appends the status of that failure instead. Returns the code of the answer that was
/// appended.
pub(crate) fn write(
    out: &mut WriteBuffer,
    frame_type: FrameType,
    target: &AnswerTarget,
    metadata: Option<&Metadata>,
    answer: &mut EncodedAnswer,
) -> Code {
    let EncodedAnswer { status, payload } = answer;
    if let Some(payload) = payload.take() {
        let message = Message { frame_type, id: target.id, payload, max_frame: target.max_frame };
        match message.write(out, |out| write_head(out, metadata, status)) {
            Ok(()) => return status.code(),
            Err(failed) => *status = EncodedAnswer::unsendable(&failed).status,
        }
    }
    let code = status.code();
    write_status(out.copied(), frame_type, target, metadata, &StatusAnswer::handled(status.clone()));
    code
}

/// Appends a status without a value.
pub(crate) fn write_status(
    out: &mut BytesMut,
    frame_type: FrameType,
    target: &AnswerTarget,
    metadata: Option<&Metadata>,
    answer: &StatusAnswer,
) {
    let header = Header { codec: target.codec, ..Header::empty(frame_type, target.id) };
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
