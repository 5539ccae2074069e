//! The heads of frames with a body: tag-length-value entries before the payload.

use std::{
    ops::{Deref, Range},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{
    Code, Metadata, ServiceId, Status,
    frame::{Frame, FrameType, Violation},
};

/// What a caller says of a call, before its arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// `service:version/method`.
    pub route: Route,
    /// How long the caller goes on waiting, counted from when it sent the frame.
    pub timeout: Option<Duration>,
    /// What kind of call it is.
    pub flags: CallFlags,
    /// Pairs for the handler.
    pub metadata: Metadata,
    /// The same key names the same call, whichever connection it comes on.
    pub idempotency_key: Option<[u8; 16]>,
    /// Whether an earlier request with the same key may have arrived.
    pub repeat: bool,
}

/// What a callee says of its answer, before the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// How the call ended.
    pub status: Status,
    /// Pairs for the caller.
    pub metadata: Metadata,
    /// How long the caller is asked to wait before a retry.
    pub retry_after: Option<Duration>,
}

/// `service:version/method` as it came; text, if it is one that anybody serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route(Bytes);

impl Route {
    /// The longest route in bytes: a service, a slash, and a method of as many bytes.
    pub const MAX_LEN: usize = 2 * ServiceId::MAX_LEN + 1;

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text; empty if it is none.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn from_wire(value: Value<'_>) -> Result<Self, Status> {
        if value.len() > Self::MAX_LEN {
            let message = format!("a route has at most {} bytes", Self::MAX_LEN);
            return Err(Status::new(Code::InvalidArgument, message));
        }
        Ok(Self(value.to_bytes()))
    }
}

/// What kind of call it is; bits of the CALL FLAGS tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallFlags(u8);

impl CallFlags {
    /// No response is sent.
    pub const ONE_WAY: Self = Self(1);
    /// The call may run twice without harm.
    pub const IDEMPOTENT: Self = Self(2);
    /// Reserved: the caller sends a stream, or expects one.
    const STREAMING: u8 = 4 | 8;
    const KNOWN: u8 = 1 | 2 | Self::STREAMING;

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of bits.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn from_wire(bits: u8) -> Result<Self, Status> {
        if bits & !Self::KNOWN != 0 {
            return Err(Status::new(Code::Unimplemented, format!("call flags {bits:#04x} are not known here")));
        }
        if bits & Self::STREAMING != 0 {
            return Err(Status::new(Code::Unimplemented, "streaming calls are not implemented"));
        }
        Ok(Self(bits))
    }
}

/// Why a head was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadError {
    /// The connection cannot be trusted any more.
    Violation(Violation),
    /// This call alone fails.
    Refused(Status),
}

impl From<Violation> for HeadError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<Status> for HeadError {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl RequestHead {
    /// Takes the head off the front of a REQUEST's body, leaving the payload.
    ///
    /// # Errors
    ///
    /// A [`Violation`] when lengths do not fit into each other; a [`Status`] for this call when an entry is not understood.
    pub fn take(body: &mut Bytes) -> Result<Self, HeadError> {
        let (mut head, mut refused, mut routed) = (Self::default(), None, false);
        for_each_entry(body, |tag, value| {
            let outcome = match tag {
                ROUTE => Route::from_wire(value).map(|route| {
                    routed = true;
                    head.route = route;
                }),
                TIMEOUT => millis(&value).map(|timeout| head.timeout = Some(timeout)),
                CALL_FLAGS => fixed::<1>(&value, "CALL FLAGS")
                    .and_then(|[bits]| CallFlags::from_wire(bits))
                    .map(|flags| head.flags = flags),
                METADATA => Metadata::from_wire(value.to_bytes()).map(|metadata| head.metadata = metadata),
                IDEMPOTENCY_KEY => fixed(&value, "IDEMPOTENCY KEY").map(|key| head.idempotency_key = Some(key)),
                REPEAT => fixed::<1>(&value, "REPEAT").map(|[repeat]| head.repeat = repeat != 0),
                other => understood(other),
            };
            refused = refused.take().or(outcome.err());
        })?;
        match refused {
            Some(status) => Err(status.into()),
            None if !routed => Err(Status::new(Code::InvalidArgument, "the request has no route").into()),
            None => Ok(head),
        }
    }
}

impl ResponseHead {
    /// Takes the head off the front of a RESPONSE's or GOAWAY's body, leaving the payload.
    ///
    /// # Errors
    ///
    /// As [`RequestHead::take`].
    pub fn take(body: &mut Bytes) -> Result<Self, HeadError> {
        // The empty head, which most answers have, deserves to be cheap.
        let mut head = Self { status: Status::OK, metadata: Metadata::default(), retry_after: None };
        let mut refused = None;
        for_each_entry(body, |tag, value| {
            let outcome = match tag {
                STATUS => parse_status(&value).map(|status| head.status = status),
                METADATA => Metadata::from_wire(value.to_bytes()).map(|metadata| head.metadata = metadata),
                RETRY_AFTER => millis(&value).map(|wait| head.retry_after = Some(wait)),
                other => understood(other),
            };
            refused = refused.take().or(outcome.err());
        })?;
        refused.map_or(Ok(head), |status| Err(status.into()))
    }

    /// Appends the head, its length first.
    pub fn write(&self, out: &mut BytesMut) {
        write_entries(out, |out| {
            if self.status != Status::OK {
                let message = self.status.wire_message();
                out.put_u8(STATUS);
                out.put_u16(1 + message.len() as u16);
                out.put_u8(self.status.code() as u8);
                out.extend_from_slice(message.as_bytes());
            }
            put_metadata(out, &self.metadata);
            if let Some(wait) = self.retry_after {
                put(out, RETRY_AFTER, &wire_millis(wait).to_be_bytes());
            }
        });
    }
}

/// A request's head as the caller has it: borrowed, because it is written once and forgotten.
#[derive(Debug, Clone, Copy)]
pub struct RequestHeadRef<'a> {
    /// `service:version/method`, at most [`Route::MAX_LEN`] bytes.
    pub route: &'a str,
    /// How long the caller goes on waiting.
    pub timeout: Option<Duration>,
    /// What kind of call it is.
    pub flags: CallFlags,
    /// Pairs for the handler.
    pub metadata: &'a Metadata,
    /// The same key names the same call.
    pub idempotency_key: Option<[u8; 16]>,
    /// Whether an earlier request with the same key may have arrived.
    pub repeat: bool,
}

impl RequestHeadRef<'_> {
    /// Appends the head, its length first.
    pub fn write(&self, out: &mut BytesMut) {
        write_entries(out, |out| {
            put(out, ROUTE, self.route.as_bytes());
            // Gathered aside, because a buffer that may grow is asked for each piece whether it must.
            let mut small = Small { bytes: [0; SMALL], length: 0 };
            if let Some(timeout) = self.timeout {
                small.put(TIMEOUT, wire_millis(timeout).to_be_bytes());
            }
            if self.flags != CallFlags::default() {
                small.put(CALL_FLAGS, [self.flags.0]);
            }
            if !self.metadata.is_empty() {
                out.extend_from_slice(small.take());
                put_metadata(out, self.metadata);
            }
            if let Some(key) = self.idempotency_key {
                small.put(IDEMPOTENCY_KEY, key);
            }
            if self.repeat {
                small.put(REPEAT, [1]);
            }
            out.extend_from_slice(small.take());
        });
    }
}

/// The value of an entry, which shares the body's memory only if it is kept.
struct Value<'a> {
    body: &'a Bytes,
    range: Range<usize>,
}

impl Value<'_> {
    fn to_bytes(&self) -> Bytes {
        self.body.slice(self.range.clone())
    }
}

impl Deref for Value<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.body[self.range.clone()]
    }
}

/// Checks that the head of a RESPONSE or GOAWAY fits into its frame, entry for entry.
///
/// Their reader may be somebody who no longer has the connection in hand. A REQUEST's head is read at once, by
/// [`RequestHead::take`].
pub(crate) fn check(frame: &Frame) -> Result<(), Violation> {
    match frame.header.frame_type {
        FrameType::Response | FrameType::Goaway => walk(&frame.body, |_, _| ()).map(drop),
        _ => Ok(()),
    }
}

/// Calls `each` with every entry and leaves `body` at the payload.
fn for_each_entry(body: &mut Bytes, mut each: impl FnMut(u8, Value<'_>)) -> Result<(), Violation> {
    let payload_at = walk(body, |tag, range| each(tag, Value { body, range }))?;
    body.advance(payload_at);
    Ok(())
}

/// Calls `each` with every tag and where its value stands; says where the payload begins.
fn walk(body: &[u8], mut each: impl FnMut(u8, Range<usize>)) -> Result<usize, Violation> {
    let length = body.first_chunk::<2>().ok_or(Violation::HeadOverrun)?;
    let end = 2 + usize::from(u16::from_be_bytes(*length));
    if end > body.len() {
        return Err(Violation::HeadOverrun);
    }
    let mut at = 2;
    while at < end {
        let entry = &body[at..end];
        let [tag, l0, l1] = *entry.first_chunk::<3>().ok_or(Violation::HeadOverrun)?;
        let value = at + 3..at + 3 + usize::from(u16::from_be_bytes([l0, l1]));
        if value.end > end {
            return Err(Violation::HeadOverrun);
        }
        at = value.end;
        each(tag, value);
    }
    Ok(end)
}

/// An unknown even tag is skipped, an unknown odd one fails the call.
fn understood(tag: u8) -> Result<(), Status> {
    if tag.is_multiple_of(2) {
        return Ok(());
    }
    Err(Status::new(Code::Unimplemented, format!("head tag {tag} must be understood and is not")))
}

fn parse_status(value: &[u8]) -> Result<Status, Status> {
    let (code, message) =
        value.split_first().ok_or_else(|| Status::new(Code::InvalidArgument, "an empty STATUS in the head"))?;
    Ok(Status::new(Code::from_u8(*code), String::from_utf8_lossy(message).into_owned()))
}

fn fixed<const N: usize>(value: &[u8], name: &str) -> Result<[u8; N], Status> {
    value.try_into().map_err(|_| {
        Status::new(Code::InvalidArgument, format!("{name} in the head has {} bytes instead of {N}", value.len()))
    })
}

fn millis(value: &[u8]) -> Result<Duration, Status> {
    Ok(Duration::from_millis(u32::from_be_bytes(fixed(value, "a time")?).into()))
}

/// Rounded up, so that a callee never gives up before its caller, and at most `u32::MAX`, 49 days.
fn wire_millis(time: Duration) -> u32 {
    let millis = time.as_secs().saturating_mul(1_000).saturating_add(time.subsec_nanos().div_ceil(1_000_000).into());
    millis.try_into().unwrap_or(u32::MAX)
}

fn write_entries(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u16(0);
    write(out);
    // Bounded by MAX_LEN of route, metadata and message, together far below 64 KiB.
    let length = (out.len() - start - 2) as u16;
    out[start..start + 2].copy_from_slice(&length.to_be_bytes());
}

fn put_metadata(out: &mut BytesMut, metadata: &Metadata) {
    if !metadata.is_empty() {
        put(out, METADATA, metadata.as_wire());
    }
}

fn put(out: &mut BytesMut, tag: u8, value: &[u8]) {
    let [l0, l1] = (value.len() as u16).to_be_bytes();
    out.extend_from_slice(&[tag, l0, l1]);
    out.extend_from_slice(value);
}

/// The entries of a request's head whose length is fixed.
struct Small {
    bytes: [u8; SMALL],
    length: usize,
}

impl Small {
    fn put<const N: usize>(&mut self, tag: u8, value: [u8; N]) {
        let [l0, l1] = (N as u16).to_be_bytes();
        let room = &mut self.bytes[self.length..self.length + 3 + N];
        room[..3].copy_from_slice(&[tag, l0, l1]);
        room[3..].copy_from_slice(&value);
        self.length += 3 + N;
    }

    /// What was put since the last time.
    fn take(&mut self) -> &[u8] {
        &self.bytes[..std::mem::take(&mut self.length)]
    }
}

/// What a time, flags, a key and a repeat take.
const SMALL: usize = 7 + 4 + 19 + 4;

const ROUTE: u8 = 1;
const TIMEOUT: u8 = 2;
const CALL_FLAGS: u8 = 3;
const METADATA: u8 = 4;
const STATUS: u8 = 5;
const RETRY_AFTER: u8 = 6;
const IDEMPOTENCY_KEY: u8 = 8;
const REPEAT: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &[u8]) -> Result<RequestHead, HeadError> {
        let mut body = BytesMut::new();
        body.put_u16(head.len() as u16);
        body.put_slice(head);
        body.put_slice(b"payload");
        let mut body = body.freeze();
        let taken = RequestHead::take(&mut body)?;
        assert_eq!(&body[..], b"payload");
        Ok(taken)
    }

    fn code(result: Result<RequestHead, HeadError>) -> Code {
        match result {
            Err(HeadError::Refused(status)) => status.code(),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn a_full_request_head_round_trips() {
        let mut metadata = Metadata::default();
        metadata.insert("tenant", "a").unwrap();
        let written = RequestHeadRef {
            route: "demo.Greeter:1.0/hello",
            timeout: Some(Duration::from_micros(1_500)),
            flags: CallFlags::ONE_WAY.union(CallFlags::IDEMPOTENT),
            metadata: &metadata,
            idempotency_key: Some([7; 16]),
            repeat: true,
        };
        let mut out = BytesMut::new();
        written.write(&mut out);
        let mut body = out.freeze();
        let head = RequestHead::take(&mut body).unwrap();
        assert!(body.is_empty());
        assert_eq!(head.route.as_str(), written.route);
        assert_eq!(head.timeout, Some(Duration::from_millis(2)), "rounded up");
        assert_eq!((head.flags, &head.metadata), (written.flags, &metadata));
        assert_eq!((head.idempotency_key, head.repeat), (Some([7; 16]), true));
    }

    #[test]
    fn a_full_response_head_round_trips() {
        let head = ResponseHead {
            status: Status::new(Code::ResourceExhausted, "later"),
            metadata: Metadata::default(),
            retry_after: Some(Duration::from_millis(50)),
        };
        let mut out = BytesMut::new();
        head.write(&mut out);
        assert_eq!(ResponseHead::take(&mut out.freeze()), Ok(head));
    }

    #[test]
    fn odd_tags_must_be_understood_and_even_ones_not() {
        assert!(request(b"\x01\0\x01r\xfe\0\x02??").is_ok());
        assert_eq!(code(request(b"\x01\0\x01r\xff\0\x02??")), Code::Unimplemented);
        assert_eq!(code(request(b"\x01\0\x01r\x03\0\x01\x10")), Code::Unimplemented, "unknown flag");
        assert_eq!(code(request(b"\x01\0\x01r\x03\0\x01\x04")), Code::Unimplemented, "streaming");
    }

    #[test]
    fn entries_of_the_wrong_shape_fail_the_call() {
        for head in [&b""[..], b"\x01\0\x01r\x02\0\x01\0", b"\x01\0\x01r\x08\0\x01\0"] {
            assert_eq!(code(request(head)), Code::InvalidArgument, "{head:?}");
        }
    }

    #[test]
    fn lengths_that_do_not_fit_break_the_connection() {
        for body in [&b""[..], b"\0", b"\0\x01", b"\0\x02\x01\0", b"\0\x03\x01\0\x01"] {
            let taken = RequestHead::take(&mut Bytes::copy_from_slice(body));
            assert_eq!(taken, Err(HeadError::Violation(Violation::HeadOverrun)), "{body:?}");
        }
    }
}
