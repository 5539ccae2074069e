//! The reply or the error in the outcome of an attempt.

use std::net::SocketAddr;

use bytes::Bytes;
use rpc_core::{
    Code, Codec, Compression, Error, Payload, Phase, Reply, Status, StatusAnswer,
    frame::Frame,
    head::{HeadError, ResponseHead},
};

use super::error::DEADLINE_PASSED;
use crate::{
    config::ClientConfig,
    connection::{channel::Channel, in_flight::Outcome, sending::SentCall},
};

/// Returns the reply or the error of an attempt that ended.
pub(super) fn into_result(
    outcome: Outcome,
    channel: &Channel,
    sent: SentCall,
    config: &ClientConfig,
) -> Result<Reply, Error> {
    let peer = channel.address();
    match outcome {
        Outcome::Response(frame) => read_response(frame, peer, config),
        Outcome::TooLong { length, limit } => {
            let message = format!("response frame is {length} bytes, limit is {limit} (TransportConfig::max_frame)");
            Err(Error::answered(Code::ResourceExhausted, message).with_peer(peer).with_phase(Phase::Decode))
        }
        Outcome::Expired => {
            // The driver still writes a request that it has not begun, and the CANCEL behind it may arrive too late.
            let phase = if channel.has_begun(sent) { Phase::Wait } else { Phase::Send };
            Err(Error::unknown(Code::DeadlineExceeded, DEADLINE_PASSED).with_peer(peer).with_phase(phase))
        }
        Outcome::Closed(reason) => {
            let message = format!("connection lost: {reason}");
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

/// Returns the reply of a one-way call, which has no answer.
pub(super) fn no_answer(peer: SocketAddr) -> Reply {
    let (codec, compression) = (Codec::Raw as u8, Compression::None as u8);
    let payload = Payload { codec, compression, bytes: Bytes::new(), max_decompressed: 0 };
    Reply { is_application_error: false, metadata: Default::default(), payload, peer: Some(peer), items: None }
}

/// Returns the reply or the error in a RESPONSE, or in the END of a stream.
pub(super) fn read_response(frame: Frame, peer: SocketAddr, config: &ClientConfig) -> Result<Reply, Error> {
    let Frame { header, mut body } = frame;
    let head = ResponseHead::take(&mut body).map_err(|error| {
        let (code, message) = match error {
            HeadError::Violation(violation) => (Code::Internal, format!("response head is malformed: {violation}")),
            HeadError::Rejected(status) => {
                // A malformed entry is the fault of the peer. An unsupported entry is not: the peer may have a newer
                // version.
                let code = if status.code() == Code::InvalidArgument { Code::Internal } else { status.code() };
                (code, format!("response head is invalid: {}", status.message()))
            }
        };
        Error::answered(code, message).with_phase(Phase::Decode).with_peer(peer)
    })?;
    let is_application_error = match head.status.code() {
        Code::Ok => false,
        Code::Application => true,
        _ => {
            let ResponseHead { status, metadata, retry_after, not_executed } = head;
            let status = retry_after.into_iter().fold(status, Status::with_retry_after);
            let error = Error::from_answer(StatusAnswer { status, not_executed }).with_peer(peer);
            // A copy, because received metadata shares the memory of its frame.
            return Err(if metadata.is_empty() { error } else { error.with_metadata(metadata.copied()) });
        }
    };
    Compression::check_accepted(header.compression, &config.compressions, "ClientConfig::compressions").map_err(
        |status| {
            let message = format!("the response does not decode: {}", status.message());
            Error::answered(Code::Internal, message).with_phase(Phase::Decode).with_peer(peer)
        },
    )?;
    let max_decompressed = config.max_decompressed;
    let payload = Payload { codec: header.codec, compression: header.compression, bytes: body, max_decompressed };
    Ok(Reply { is_application_error, metadata: head.metadata, payload, peer: Some(peer), items: None })
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use bytes::BufMut;
    use rpc_core::{
        Delivery, WriteBuffer,
        transport::{CloseReason, Outbox},
    };
    use tokio::time::Instant;

    use super::*;
    use crate::connection::in_flight::NewCall;

    /// An open connection still writes a pending request.
    ///
    /// The server then polls its handler before it reads the CANCEL behind the request.
    #[test]
    fn unwritten_request_is_not_executed_only_after_a_close() {
        let outbox = Arc::new(Outbox::new(100));
        let channel =
            Channel::new(([127, 0, 0, 1], 1).into(), Arc::clone(&outbox), 10, Arc::default(), &Default::default());
        channel.prove();
        let write = |_, out: &mut WriteBuffer| {
            out.copied().put_u8(1);
            Ok(())
        };
        let deadline = Instant::now() + Duration::from_secs(1);
        let call = NewCall::until(deadline);
        let sent = channel.start(call, None, 0, write).unwrap();
        let delivery = |outcome| into_result(outcome, &channel, sent, &ClientConfig::default()).unwrap_err().delivery();
        assert_eq!(delivery(Outcome::Expired), Delivery::Unknown);
        assert_eq!(delivery(Outcome::Closed(Arc::new(CloseReason::PeerClosed))), Delivery::NotExecuted);
    }
}
