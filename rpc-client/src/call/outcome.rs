//! What a call's outcome on its connection means to its caller.

use std::net::SocketAddr;

use bytes::Bytes;
use rpc_core::{
    Code, Codec, Compression, Error, Payload, Phase, Reply,
    frame::Frame,
    head::{HeadError, ResponseHead},
};

use crate::{
    connection::channel::{Channel, Sent},
    connection::in_flight::Outcome,
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
            Err(Error::answered(Code::ResourceExhausted, message).with_peer(peer).with_phase(Phase::Decode))
        }
        Outcome::Overdue => {
            // What was not written yet will be, and its cancellation after it may come too late.
            let phase = if channel.has_begun(sent) { Phase::Wait } else { Phase::Send };
            Err(Error::unknown(Code::DeadlineExceeded, OVERDUE).with_peer(peer).with_phase(phase))
        }
        Outcome::Closed(reason) => {
            let message = format!("the connection was lost: {reason}");
            // The outbox of a closed connection writes nothing more: a request that it has not begun never executes.
            let error = if channel.has_begun(sent) {
                Error::unknown(Code::Unavailable, message).with_phase(Phase::Wait)
            } else {
                Error::not_executed(Code::Unavailable, message).with_phase(Phase::Send)
            };
            Err(error.with_peer(peer).with_source(reason))
        }
    }
}

/// The message of every error that a deadline causes.
pub(crate) const OVERDUE: &str = "the deadline passed";

/// The reply to a call that gets none.
pub(crate) fn nothing(peer: SocketAddr) -> Reply {
    let (codec, compression) = (Codec::Raw as u8, Compression::None as u8);
    let payload = Payload { codec, compression, bytes: Bytes::new(), max_decompressed: 0 };
    Reply { is_application_error: false, metadata: Default::default(), payload, peer: Some(peer) }
}

fn read(frame: Frame, peer: SocketAddr, max_decompressed: usize) -> Result<Reply, Error> {
    let Frame { header, mut body } = frame;
    let head = ResponseHead::take(&mut body).map_err(|error| {
        let (code, message) = match error {
            HeadError::Violation(violation) => {
                (Code::Internal, format!("the response's head is malformed: {violation}"))
            }
            // A head of the wrong shape is the peer's fault; one that says more than is known here is nobody's.
            HeadError::Refused(status) => {
                let code = if status.code() == Code::InvalidArgument { Code::Internal } else { status.code() };
                (code, format!("the response's head is not understood: {}", status.message()))
            }
        };
        Error::answered(code, message).with_phase(Phase::Decode).with_peer(peer)
    })?;
    let is_application_error = match head.status.code() {
        Code::Ok => false,
        Code::Application => true,
        _ => return Err(Error::from_status(head.status, head.retry_after).with_peer(peer)),
    };
    let payload = Payload { codec: header.codec, compression: header.compression, bytes: body, max_decompressed };
    Ok(Reply { is_application_error, metadata: head.metadata, payload, peer: Some(peer) })
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, task::Waker, time::Duration};

    use bytes::BufMut;
    use rpc_core::{
        Delivery, WriteBuffer,
        transport::{CloseReason, Outbox},
    };
    use tokio::time::Instant;

    use super::*;

    /// A server polls a handler before it reads the cancellation behind the request.
    #[test]
    fn what_is_not_written_yet_may_still_run_unless_the_connection_is_over() {
        let outbox = Arc::new(Outbox::new(100));
        let channel = Channel::new(([127, 0, 0, 1], 1).into(), Arc::clone(&outbox), 10, Arc::default());
        channel.prove();
        let write = |_, out: &mut WriteBuffer| {
            out.copied().put_u8(1);
            Ok(())
        };
        let sent = channel.start(Instant::now() + Duration::from_secs(1), None, false, Waker::noop(), write).unwrap();
        let delivery = |outcome| conclude(outcome, &channel, sent, 0).unwrap_err().delivery();
        assert_eq!(delivery(Outcome::Overdue), Delivery::Unknown);
        assert_eq!(delivery(Outcome::Closed(Arc::new(CloseReason::PeerClosed))), Delivery::NotExecuted);
    }
}
