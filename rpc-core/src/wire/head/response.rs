//! [`ResponseHead`]: the head of a RESPONSE or GOAWAY.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{HeadError, entry, tag};
use crate::{
    Code, Metadata, Status,
    frame::{Frame, FrameType, Violation},
};

/// The head of a RESPONSE or GOAWAY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// The outcome of the call.
    pub status: Status,
    /// Metadata for the caller.
    pub metadata: Metadata,
    /// How long the caller should wait before a retry.
    pub retry_after: Option<Duration>,
    /// Whether the callee states that the handler did not execute.
    pub not_executed: bool,
}

impl ResponseHead {
    /// Reads the head of a RESPONSE's or GOAWAY's body and advances `body` to the payload.
    ///
    /// # Errors
    ///
    /// As [`RequestHead::take`](super::RequestHead::take).
    pub fn take(body: &mut Bytes) -> Result<Self, HeadError> {
        let mut head =
            Self { status: Status::OK, metadata: Metadata::default(), retry_after: None, not_executed: false };
        // Most answers have an empty head.
        if body.starts_with(&EMPTY) {
            body.advance(EMPTY.len());
            return Ok(head);
        }
        let mut rejected = None;
        entry::for_each(body, |tag, value| {
            let outcome = match tag {
                tag::STATUS => parse_status(&value).map(|status| head.status = status),
                tag::METADATA => Metadata::from_wire(value.to_bytes()).map(|metadata| head.metadata = metadata),
                tag::RETRY_AFTER => entry::millis(&value, "RETRY AFTER").map(|wait| head.retry_after = Some(wait)),
                tag::NOT_EXECUTED => entry::fixed::<0>(&value, "NOT EXECUTED").map(|_| head.not_executed = true),
                other => entry::check_unknown(other),
            };
            rejected = rejected.take().or(outcome.err());
        })?;
        rejected.map_or(Ok(head), |status| Err(status.into()))
    }

    /// Returns the code in the head of a RESPONSE's body, whatever other entries the head has.
    pub fn code(body: &[u8]) -> Code {
        let mut code = Code::Ok;
        // The driver has checked the lengths.
        let _ = entry::walk(body, |tag, range| {
            if tag == tag::STATUS {
                code = body[range].first().map_or(Code::Unknown, |code| Code::from_u8(*code));
            }
        });
        code
    }

    /// Appends the length of the head and the head.
    pub fn write(&self, out: &mut BytesMut) {
        entry::write_all(out, |out| {
            if self.status != Status::OK {
                let message = self.status.wire_message();
                out.put_u8(tag::STATUS);
                out.put_u16(entry::length(1 + message.len()));
                out.put_u8(self.status.code() as u8);
                out.extend_from_slice(message.as_bytes());
            }
            entry::put_metadata(out, &self.metadata);
            if let Some(wait) = self.retry_after {
                entry::put(out, tag::RETRY_AFTER, &entry::wire_millis(wait).to_be_bytes());
            }
            if self.not_executed {
                entry::put(out, tag::NOT_EXECUTED, &[]);
            }
        });
    }
}

/// Checks that every entry in the head of a RESPONSE or GOAWAY fits into its frame.
///
/// The driver checks these heads because their reader may no longer own the connection and could not close it. The
/// server reads the head of a REQUEST at once, with [`RequestHead::take`](super::RequestHead::take).
pub(crate) fn check(frame: &Frame) -> Result<(), Violation> {
    match frame.header.frame_type {
        _ if frame.body.starts_with(&EMPTY) => Ok(()),
        FrameType::Response | FrameType::CalleeEnd | FrameType::Goaway => entry::walk(&frame.body, |_, _| ()).map(drop),
        _ => Ok(()),
    }
}

/// The bytes of an empty head: its length.
const EMPTY: [u8; 2] = [0, 0];

fn parse_status(value: &[u8]) -> Result<Status, Status> {
    let (code, message) =
        value.split_first().ok_or_else(|| Status::new(Code::InvalidArgument, "STATUS in the head is empty"))?;
    Ok(Status::new(Code::from_u8(*code), String::from_utf8_lossy(message).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_response_head_round_trips() {
        let head = ResponseHead {
            status: Status::new(Code::ResourceExhausted, "later"),
            metadata: Metadata::default(),
            retry_after: Some(Duration::from_millis(50)),
            not_executed: true,
        };
        let mut out = BytesMut::new();
        head.write(&mut out);
        assert_eq!(ResponseHead::take(&mut out.freeze()), Ok(head));
    }
}
