//! Frames that carry only a status: GOAWAY, and a RESPONSE without a result.

use std::borrow::Cow;

use bytes::BytesMut;
use rpc_core::{
    Code, Metadata, Status, StatusAnswer,
    frame::{Frame, FrameType, Header},
    head::ResponseHead,
};

/// Returns the frame after which a peer must send no new calls on the connection.
pub(crate) fn goaway(code: Code, message: impl Into<Cow<'static, str>>) -> Frame {
    status_frame(Header::empty(FrameType::Goaway, 0), StatusAnswer::handled(Status::new(code, message)))
}

/// Returns the response that rejects `request`.
pub(crate) fn rejection(request: Header, status: Status) -> Frame {
    let header = Header { codec: request.codec, ..Header::empty(FrameType::Response, request.id) };
    status_frame(header, StatusAnswer::rejection(status))
}

fn status_frame(header: Header, StatusAnswer { status, not_executed }: StatusAnswer) -> Frame {
    let mut body = BytesMut::new();
    ResponseHead { retry_after: status.retry_after(), status, metadata: Metadata::default(), not_executed }
        .write(&mut body);
    Frame { header, body: body.freeze() }
}
