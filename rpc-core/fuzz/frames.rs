//! Checks of frames and heads.

use std::mem::discriminant;

use bytes::{BufMut, Bytes, BytesMut};
use rpc_core::{
    StoredAnswer,
    frame::{Frame, HEADER_LEN, Header, Violation},
    head::{HeadError, RequestHead, RequestHeadRef, ResponseHead},
    transport::{FrameReader, Inbound},
};

/// Checks a header, the heads of a request and a response, and a stored answer.
///
/// Decoded values encode to the same bytes.
pub fn frame(input: &[u8]) {
    let Some((header, body)) = input.split_first_chunk::<HEADER_LEN>() else { return };
    if let Ok(parsed) = Header::parse(header) {
        assert_eq!(parsed.to_bytes(), *header);
    }
    let whole = Bytes::copy_from_slice(input);
    if let Ok(answer) = StoredAnswer::from_bytes(whole.clone()) {
        assert_eq!(answer.as_bytes(), &whole);
    }
    request(Bytes::copy_from_slice(body));
    response(Bytes::copy_from_slice(body));
}

fn request(mut body: Bytes) {
    let length = body.len();
    let Ok(head) = RequestHead::take(&mut body) else { return };
    assert!(body.len() < length, "a head contains at least its length");
    // The dispatcher rejects a route that is not UTF-8, and it cannot be written.
    if std::str::from_utf8(head.route.as_bytes()).is_err() {
        return;
    }
    let again = RequestHeadRef {
        route: head.route.as_str(),
        timeout: head.timeout,
        flags: head.flags,
        metadata: &head.metadata,
        once_key: head.idempotency_key,
        repeat: head.repeat,
        response_compression: head.response_compression,
        stream_timeout: head.stream_timeout,
    };
    let mut out = BytesMut::new();
    again.write(&mut out);
    // A writer has no advisory key.
    let once = head.idempotency_key.is_some();
    assert_eq!(RequestHead::take(&mut out.freeze()), Ok(RequestHead { once, ..head }));
}

fn response(mut body: Bytes) {
    let Ok(head) = ResponseHead::take(&mut body) else { return };
    let mut out = BytesMut::new();
    head.write(&mut out);
    let mut written = out.freeze();
    match ResponseHead::take(&mut written) {
        Ok(again) => {
            assert_eq!((again.status.code(), &again.metadata), (head.status.code(), &head.metadata));
            assert_eq!((again.retry_after, again.not_executed), (head.retry_after, head.not_executed));
            // A message that is too long is truncated when it is written.
            assert!(head.status.message().starts_with(again.status.message()));
        }
        Err(HeadError::Violation(violation)) => panic!("a written head violates the protocol: {violation}"),
        Err(HeadError::Rejected(status)) => panic!("a written head is rejected: {status}"),
    }
}

/// Checks that every split of a stream yields the same frames.
///
/// The first two bytes determine the split. The buffer's capacity follows the received bytes, not the announced
/// lengths.
pub fn frame_stream(input: &[u8]) {
    let Some((split, stream)) = input.split_first_chunk::<2>() else { return };
    let (_frames, _end) = read_at_once_and_in_pieces(stream, *split, MAX_FRAME);
}

/// Returns all frames of a stream, and whether it ends within a frame, or its violation. They are the same if the stream
/// arrives in pieces.
pub(crate) fn read_at_once_and_in_pieces(
    stream: &[u8],
    [count, seed]: [u8; 2],
    max_frame: u32,
) -> (Vec<Inbound>, Result<bool, Violation>) {
    let at_once = read(stream, std::iter::empty(), max_frame);
    let mut state = u32::from(seed) + 1;
    let cuts = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 24) as usize * (state >> 30) as usize / 2
    });
    let in_pieces = read(stream, cuts.take(usize::from(count) * 8), max_frame);
    assert!(at_once.0 == in_pieces.0, "pieces change the frames");
    match (&at_once.1, &in_pieces.1) {
        // The error of another protocol contains the bytes that had arrived, which differ.
        (Err(at_once), Err(in_pieces)) => assert_eq!(discriminant(at_once), discriminant(in_pieces)),
        (at_once, in_pieces) => assert_eq!(at_once, in_pieces),
    }
    at_once
}

/// Returns all frames of a stream that arrives in pieces of the lengths `cuts`.
///
/// Also returns whether the stream ends within a frame, or its violation.
fn read(
    mut stream: &[u8],
    mut cuts: impl Iterator<Item = usize>,
    max_frame: u32,
) -> (Vec<Inbound>, Result<bool, Violation>) {
    let (mut reader, mut found) = (FrameReader::new(max_frame), Vec::new());
    let mut received = 0;
    loop {
        loop {
            match reader.next_frame() {
                Ok(Some(inbound)) => {
                    if let Inbound::Frame(Frame { header, body }) = &inbound {
                        assert_eq!(header.body_length(), body.len());
                        assert!(header.full_length <= max_frame);
                    }
                    found.push(inbound);
                }
                Ok(None) => break,
                Err(violation) => return (found, Err(violation)),
            }
        }
        if stream.is_empty() {
            return (found, Ok(reader.is_mid_frame()));
        }
        let buffer = reader.read_buffer();
        let spare = buffer.capacity() - buffer.len();
        assert!(spare > 0, "the reader provides no capacity");
        // At most twice the received bytes, plus the capacity that the reader grants in advance.
        assert!(
            buffer.capacity() <= 4 * received + (1 << 20),
            "{} bytes of capacity for {received}",
            buffer.capacity()
        );
        let (piece, rest) = stream.split_at(cuts.next().unwrap_or(stream.len()).min(stream.len()).min(spare));
        buffer.put_slice(piece);
        reader.filled(piece.len());
        received += piece.len();
        stream = rest;
    }
}

/// The frame limit.
///
/// It is so short that small inputs contain frames longer than it, and longer than 16 times it.
const MAX_FRAME: u32 = 1024;
