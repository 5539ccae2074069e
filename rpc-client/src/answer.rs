//! What a call's outcome on its connection means to its caller.

use std::net::SocketAddr;

use bytes::Bytes;
use rpc_core::{
    Code, Codec, Compression, Delivery, Error, Payload, Phase, Reply,
    frame::Frame,
    head::{HeadError, ResponseHead},
};

use crate::{
    channel::{Channel, Sent},
    in_flight::Outcome,
};

/// Reads the reply or the error out of an outcome.
pub(crate) fn conclude(
    outcome: Outcome,
    channel: &Channel,
    sent: Sent,
    max_decompressed: usize,
) -> Result<Reply, Error> {
    let peer = channel.address();
    match outcome {
        Outcome::Response(frame) => read(frame, peer, max_decompressed),
        Outcome::Overlong { length, limit } => {
            let message = format!("the response has {length} bytes, over the limit of {limit}");
            let error = Error::new(Code::ResourceExhausted, message);
            Err(error.with_peer(peer).with_phase(Phase::Decode).with_delivery(Delivery::Answered))
        }
        Outcome::Overdue => Err(unanswered(overdue(), channel, sent)),
        Outcome::Closed(reason) => {
            let error = Error::new(Code::Unavailable, format!("the connection was lost: {reason}"));
            Err(unanswered(error.with_source(reason), channel, sent))
        }
    }
}

/// What of a request was not handed to the socket before its connection closed never ran: it is not written any more. What
/// still waits when its deadline passes may run nevertheless: it is written once the socket takes it, and its cancellation,
/// which comes behind it, finds a handler that is done at once done.
fn unanswered(error: Error, channel: &Channel, sent: Sent) -> Error {
    let begun = channel.has_begun(sent);
    let never_written = !begun && !error.is_timeout();
    error
        .with_peer(channel.address())
        .with_phase(if begun { Phase::Wait } else { Phase::Send })
        .with_delivery(if never_written { Delivery::NotSent } else { Delivery::Unknown })
}

/// The deadline passed.
pub(crate) fn overdue() -> Error {
    Error::new(Code::DeadlineExceeded, "the deadline passed")
}

/// The reply to a call that gets none.
pub(crate) fn nothing(peer: SocketAddr) -> Reply {
    let (codec, compression) = (Codec::Raw as u8, Compression::None as u8);
    let payload = Payload { codec, compression, bytes: Bytes::new(), max_decompressed: 0 };
    Reply { is_application_error: false, metadata: Default::default(), payload, peer: Some(peer) }
}

fn read(frame: Frame, peer: SocketAddr, max_decompressed: usize) -> Result<Reply, Error> {
    let Frame { header, mut body } = frame;
    let head = ResponseHead::take(&mut body).map_err(|error| {
        let message = match error {
            HeadError::Violation(violation) => format!("the response's head is malformed: {violation}"),
            HeadError::Refused(status) => format!("the response's head is not understood: {}", status.message()),
        };
        let error = Error::new(Code::Internal, message).with_phase(Phase::Decode);
        error.with_delivery(Delivery::Answered).with_peer(peer)
    })?;
    let is_application_error = match head.status.code() {
        Code::Ok => false,
        Code::Application => true,
        _ => return Err(Error::from_status(head.status, head.retry_after).with_peer(peer)),
    };
    let payload = Payload { codec: header.codec, compression: header.compression, bytes: body, max_decompressed };
    Ok(Reply { is_application_error, metadata: head.metadata, payload, peer: Some(peer) })
}
