//! [`RequestHead`] and [`RequestHeadRef`]: the head of a REQUEST, as read and as written.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{CallFlags, HeadError, Route, entry, tag};
use crate::{Code, Metadata, Status};

/// The head of a REQUEST, as the callee reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// `service:version/method`.
    pub route: Route,
    /// How long the caller waits for the answer, from when it sent the frame.
    pub timeout: Option<Duration>,
    /// The kind of the call.
    pub flags: CallFlags,
    /// Metadata for the handler.
    pub metadata: Metadata,
    /// The key that identifies the call across attempts and connections.
    pub idempotency_key: Option<[u8; 16]>,
    /// Whether the callee must execute at most one request with this key, or reject the call.
    pub once: bool,
    /// Whether an earlier request with the same key may have arrived.
    pub repeat: bool,
    /// The number of the compression that the caller wants for the response, if it is not that of the request.
    pub response_compression: Option<u8>,
    /// How long the stream of the callee may last after the acceptance of the call.
    pub stream_timeout: Option<Duration>,
}

/// The head of a REQUEST, as the caller writes it. It borrows its parts because it is written once.
#[derive(Debug, Clone, Copy)]
pub struct RequestHeadRef<'a> {
    /// `service:version/method`, at most [`Route::MAX_LEN`] bytes.
    pub route: &'a str,
    /// How long the caller waits for the answer.
    pub timeout: Option<Duration>,
    /// The kind of the call.
    pub flags: CallFlags,
    /// Metadata for the handler.
    pub metadata: &'a Metadata,
    /// The key of a once call, which identifies the call across attempts and connections.
    pub once_key: Option<[u8; 16]>,
    /// Whether an earlier request with the same key may have arrived.
    pub repeat: bool,
    /// The number of the compression that the caller wants for the response, if it is not that of the request.
    pub response_compression: Option<u8>,
    /// How long the stream of the callee may last after the acceptance of the call.
    pub stream_timeout: Option<Duration>,
}

impl RequestHead {
    /// Reads the head of a REQUEST's body and advances `body` to the payload.
    ///
    /// # Errors
    ///
    /// A [`Violation`](crate::frame::Violation) if a length exceeds its container; a [`Status`] for this call if an
    /// entry is malformed or not supported.
    pub fn take(body: &mut Bytes) -> Result<Self, HeadError> {
        let (mut head, mut rejected, mut routed) = (Self::default(), None, false);
        entry::for_each(body, |tag, value| {
            let outcome = match tag {
                tag::ROUTE => Route::from_wire(value).map(|route| {
                    routed = true;
                    head.route = route;
                }),
                tag::TIMEOUT => entry::millis(&value, "TIMEOUT").map(|timeout| head.timeout = Some(timeout)),
                tag::CALL_FLAGS => entry::fixed::<1>(&value, "CALL FLAGS")
                    .and_then(|[bits]| CallFlags::from_wire(bits))
                    .map(|flags| head.flags = flags),
                tag::METADATA => Metadata::from_wire(value.to_bytes()).map(|metadata| head.metadata = metadata),
                tag::ONCE_KEY => entry::fixed(&value, "ONCE KEY").map(|key| {
                    (head.idempotency_key, head.once) = (Some(key), true);
                }),
                tag::IDEMPOTENCY_KEY => entry::fixed(&value, "IDEMPOTENCY KEY").map(|key| {
                    if !head.once {
                        head.idempotency_key = Some(key);
                    }
                }),
                tag::REPEAT => entry::fixed::<1>(&value, "REPEAT").map(|[repeat]| head.repeat = repeat != 0),
                tag::RESPONSE_COMPRESSION => entry::fixed::<1>(&value, "RESPONSE COMPRESSION")
                    .map(|[number]| head.response_compression = Some(number)),
                tag::STREAM_TIMEOUT => {
                    entry::millis(&value, "STREAM TIMEOUT").map(|timeout| head.stream_timeout = Some(timeout))
                }
                other => entry::check_unknown(other),
            };
            rejected = rejected.take().or(outcome.err());
        })?;
        match rejected {
            Some(status) => Err(status.into()),
            None if !routed => Err(Status::new(Code::InvalidArgument, "the request has no route").into()),
            None => Ok(head),
        }
    }
}

impl RequestHeadRef<'_> {
    /// Appends the length of the head and the head.
    pub fn write(&self, out: &mut BytesMut) {
        let mut short = ShortEntries { bytes: [0; SHORT_ENTRIES], length: 0 };
        if let Some(timeout) = self.timeout {
            short.put(tag::TIMEOUT, entry::wire_millis(timeout).to_be_bytes());
        }
        if self.flags != CallFlags::default() {
            short.put(tag::CALL_FLAGS, [self.flags.bits()]);
        }
        let before_metadata = short.length;
        if let Some(key) = self.once_key {
            short.put(tag::ONCE_KEY, key);
        }
        if self.repeat {
            short.put(tag::REPEAT, [1]);
        }
        if let Some(number) = self.response_compression {
            short.put(tag::RESPONSE_COMPRESSION, [number]);
        }
        if let Some(timeout) = self.stream_timeout {
            short.put(tag::STREAM_TIMEOUT, entry::wire_millis(timeout).to_be_bytes());
        }
        let (before, after) = short.bytes[..short.length].split_at(before_metadata);
        let route = self.route.as_bytes();
        let metadata = if self.metadata.is_empty() { 0 } else { 3 + self.metadata.as_wire().len() };
        let head = entry::length(3 + route.len() + short.length + metadata).to_be_bytes();
        let [l0, l1] = entry::length(route.len()).to_be_bytes();
        let start = [head[0], head[1], tag::ROUTE, l0, l1];
        if metadata == 0 && route.len() <= SHORT_ROUTE {
            // In one append: each append to a growable buffer checks its capacity.
            let mut bytes = [0; 5 + SHORT_ROUTE + SHORT_ENTRIES];
            let (mut length, parts) = (0, [&start[..], route, before, after]);
            for part in parts {
                bytes[length..length + part.len()].copy_from_slice(part);
                length += part.len();
            }
            return out.extend_from_slice(&bytes[..length]);
        }
        out.extend_from_slice(&start);
        out.extend_from_slice(route);
        out.extend_from_slice(before);
        entry::put_metadata(out, self.metadata);
        out.extend_from_slice(after);
    }
}

/// The entries of fixed length.
struct ShortEntries {
    bytes: [u8; SHORT_ENTRIES],
    length: usize,
}

impl ShortEntries {
    fn put<const N: usize>(&mut self, tag: u8, value: [u8; N]) {
        let [l0, l1] = (N as u16).to_be_bytes();
        let entry = &mut self.bytes[self.length..self.length + 3 + N];
        entry[..3].copy_from_slice(&[tag, l0, l1]);
        entry[3..].copy_from_slice(&value);
        self.length += 3 + N;
    }
}

/// The length of TIMEOUT, CALL FLAGS, ONCE KEY, REPEAT, RESPONSE COMPRESSION and STREAM TIMEOUT together, in bytes.
const SHORT_ENTRIES: usize = 7 + 4 + 19 + 4 + 4 + 7;
/// The longest route of a head that is collected on the stack, in bytes.
const SHORT_ROUTE: usize = 128;

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;
    use crate::frame::Violation;

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
            Err(HeadError::Rejected(status)) => status.code(),
            other => panic!("expected a rejection, got {other:?}"),
        }
    }

    #[test]
    fn full_request_head_round_trips() {
        let mut metadata = Metadata::default();
        metadata.insert("tenant", "a").unwrap();
        let written = RequestHeadRef {
            route: "demo.Greeter:1.0/hello",
            timeout: Some(Duration::from_micros(1_500)),
            flags: CallFlags::ONE_WAY.union(CallFlags::IDEMPOTENT),
            metadata: &metadata,
            once_key: Some([7; 16]),
            repeat: true,
            response_compression: Some(2),
            stream_timeout: Some(Duration::from_secs(60)),
        };
        let mut out = BytesMut::new();
        written.write(&mut out);
        let mut body = out.freeze();
        let head = RequestHead::take(&mut body).unwrap();
        assert!(body.is_empty());
        assert_eq!(head.route.as_str(), written.route);
        assert_eq!(head.timeout, Some(Duration::from_millis(2)), "rounded up");
        assert_eq!((head.flags, &head.metadata), (written.flags, &metadata));
        assert_eq!((head.idempotency_key, head.once, head.repeat), (Some([7; 16]), true, true));
        assert_eq!((head.response_compression, head.stream_timeout), (Some(2), Some(Duration::from_secs(60))));
    }

    #[test]
    fn once_key_counts_before_idempotency_key() {
        let key = |tag: u8, byte: u8| [&[tag, 0, 16][..], &[byte; 16]].concat();
        let read = |keys: &[Vec<u8>]| request(&[b"\x01\0\x01r", &keys.concat()[..]].concat()).unwrap();
        let (once, other) = (key(tag::ONCE_KEY, 1), key(tag::IDEMPOTENCY_KEY, 2));
        for head in [read(&[once.clone(), other.clone()]), read(&[other.clone(), once])] {
            assert_eq!((head.idempotency_key, head.once), (Some([1; 16]), true));
        }
        let head = read(&[other]);
        assert_eq!((head.idempotency_key, head.once), (Some([2; 16]), false));
    }

    #[test]
    fn unknown_odd_tags_fail_and_even_tags_are_skipped() {
        assert!(request(b"\x01\0\x01r\xfe\0\x02??").is_ok());
        assert_eq!(code(request(b"\x01\0\x01r\xff\0\x02??")), Code::Unimplemented);
        assert_eq!(code(request(b"\x01\0\x01r\x03\0\x01\x10")), Code::Unimplemented, "unknown flag");
    }

    #[test]
    fn malformed_entries_fail_the_call() {
        for head in [&b""[..], b"\x01\0\x01r\x02\0\x01\0", b"\x01\0\x01r\x07\0\x01\0", b"\x01\0\x01r\x08\0\x01\0"] {
            assert_eq!(code(request(head)), Code::InvalidArgument, "{head:?}");
        }
    }

    #[test]
    fn head_overruns_are_violations() {
        for body in [&b""[..], b"\0", b"\0\x01", b"\0\x02\x01\0", b"\0\x03\x01\0\x01"] {
            let taken = RequestHead::take(&mut Bytes::copy_from_slice(body));
            assert_eq!(taken, Err(HeadError::Violation(Violation::HeadOverrun)), "{body:?}");
        }
    }
}
