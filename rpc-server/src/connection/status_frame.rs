//! Frames that carry only a status: GOAWAY, and a RESPONSE without a result.

use std::borrow::Cow;

use bytes::BytesMut;
use rpc_core::{
    Code, Metadata, Status,
    frame::{Frame, FrameType, Header},
    head::ResponseHead,
};

/// Returns the frame after which a peer must send no new calls on the connection.
pub(crate) fn goaway(code: Code, message: impl Into<Cow<'static, str>>) -> Frame {
    status_frame(Header::empty(FrameType::Goaway, 0), Status::new(code, message))
}

/// Returns the response to `request` with a status and no result.
pub(crate) fn response(request: Header, status: Status) -> Frame {
    status_frame(Header { codec: request.codec, ..Header::empty(FrameType::Response, request.id) }, status)
}

fn status_frame(header: Header, status: Status) -> Frame {
    let mut body = BytesMut::new();
    ResponseHead { status, metadata: Metadata::default(), retry_after: None }.write(&mut body);
    Frame { header, body: body.freeze() }
}
