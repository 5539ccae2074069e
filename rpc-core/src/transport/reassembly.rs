//! [`Reassembly`]: assembles bodies that arrive in fragments.

use bytes::{Buf, BytesMut};

use super::inbound::Inbound;
use crate::frame::{
    Frame, FrameType, HEADER_LEN, Header, MAX_FRAGMENTED_BODIES, MAX_SKIPPED_LENGTH_RATIO, MIN_FRAGMENT_BODY,
    MORE_FRAGMENTS, Violation,
};

/// Assembles bodies that arrive in fragments, of at most [`MAX_FRAGMENTED_BODIES`] frames at the same time.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    /// The incomplete bodies in the order in which they began.
    bodies: Vec<Body>,
    /// The number of bodies that have begun.
    begun: u64,
}

/// The body of one frame.
#[derive(Debug)]
struct Body {
    /// The header that the frame would have if it were sent whole.
    header: Header,
    /// The bytes that have arrived; none if the frame is longer than the limit.
    bytes: BytesMut,
    /// The number of bytes that are missing.
    missing: usize,
    /// The ordinal number of the body on this connection.
    number: u64,
}

impl Reassembly {
    /// Returns the oldest incomplete body: its ordinal number on this connection, and the id of its call.
    pub(super) fn oldest(&self) -> Option<(u64, u32)> {
        self.bodies.first().map(|body| (body.number, body.header.id))
    }

    /// Adds a fragment that is not the last one of its body.
    ///
    /// Returns the header of a frame that is longer than `max_frame` with its first fragment.
    ///
    /// # Errors
    ///
    /// The [`Violation`] for which the connection must close.
    pub(super) fn add(
        &mut self,
        header: Header,
        mut fragment: &[u8],
        max_frame: u32,
    ) -> Result<Option<Header>, Violation> {
        if !header.frame_type.may_be_fragmented() {
            return Err(Violation::UnknownType(header.frame_type.as_u8() | MORE_FRAGMENTS));
        }
        if fragment.len() < MIN_FRAGMENT_BODY {
            return Err(Violation::ShortFragment(fragment.len()));
        }
        if let Some(index) = self.position(&header) {
            let body = &mut self.bodies[index];
            body.add(fragment, max_frame);
            // The last fragment completes the body.
            return if body.missing > 0 { Ok(None) } else { Err(Violation::FragmentLength(header.id)) };
        }
        if self.bodies.len() == MAX_FRAGMENTED_BODIES {
            return Err(Violation::TooManyFragmented);
        }
        let missing = fragment.get_u32() as usize;
        if fragment.len() >= missing {
            return Err(Violation::FragmentLength(header.id));
        }
        let full_length = u32::try_from(HEADER_LEN + missing).unwrap_or(u32::MAX);
        if u64::from(full_length) > u64::from(max_frame) * u64::from(MAX_SKIPPED_LENGTH_RATIO) {
            return Err(Violation::TooLong { length: full_length, limit: max_frame });
        }
        self.begun += 1;
        let header = Header { full_length, ..header };
        let mut body = Body { header, bytes: BytesMut::new(), missing, number: self.begun };
        body.add(fragment, max_frame);
        self.bodies.push(body);
        Ok((full_length > max_frame).then_some(header))
    }

    /// Returns whether this header is that of the last fragment of an incomplete body.
    pub(super) fn expects(&self, header: &Header) -> bool {
        self.position(header).is_some()
    }

    /// Adds the last fragment of a body. Returns the frame, unless it is longer than `max_frame` or has no incomplete body.
    ///
    /// # Errors
    ///
    /// The [`Violation`] for which the connection must close.
    pub(super) fn complete(
        &mut self,
        header: &Header,
        fragment: &[u8],
        max_frame: u32,
    ) -> Result<Option<Inbound>, Violation> {
        let Some(index) = self.position(header) else { return Ok(None) };
        let mut body = self.bodies.remove(index);
        if fragment.len() != body.missing {
            return Err(Violation::FragmentLength(header.id));
        }
        body.add(fragment, max_frame);
        let Body { header, bytes, .. } = body;
        Ok((header.full_length <= max_frame).then(|| Inbound::Frame(Frame { header, body: bytes.freeze() })))
    }

    /// Discards the incomplete bodies of a caller's call, which the caller has cancelled.
    pub(super) fn cancel(&mut self, id: u32) {
        let is_of_call = |header: &Header| {
            header.id == id && matches!(header.frame_type, FrameType::Request | FrameType::CallerItem)
        };
        self.bodies.retain(|body| !is_of_call(&body.header));
    }

    fn position(&self, header: &Header) -> Option<usize> {
        let is_same = |body: &Body| body.header.id == header.id && body.header.frame_type == header.frame_type;
        self.bodies.iter().position(is_same)
    }
}

impl Body {
    /// Adds a fragment, of which the bytes that exceed the announced length are lost.
    fn add(&mut self, fragment: &[u8], max_frame: u32) {
        self.missing = self.missing.saturating_sub(fragment.len());
        if self.header.full_length > max_frame {
            return;
        }
        let needed = fragment.len() + self.missing;
        if self.bytes.capacity() - self.bytes.len() < needed {
            // The announced length may never arrive: beyond UNPROVED, the capacity at most doubles with the bytes that
            // have arrived.
            self.bytes.reserve(needed.min((self.bytes.len() + fragment.len()).max(UNPROVED)));
        }
        self.bytes.extend_from_slice(fragment);
    }
}

/// The capacity that is reserved for a body before more of it has arrived, in bytes.
const UNPROVED: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 100 << 10;

    fn header(frame_type: FrameType, id: u32) -> Header {
        Header::empty(frame_type, id)
    }

    /// Returns the first fragment of a body of `total` bytes, with the shortest length.
    fn first(total: usize) -> Vec<u8> {
        [&(total as u32).to_be_bytes()[..], &[1; MIN_FRAGMENT_BODY - 4]].concat()
    }

    fn complete(reassembly: &mut Reassembly, header: Header, fragment: &[u8]) -> Option<Inbound> {
        reassembly.complete(&header, fragment, LIMIT).unwrap()
    }

    /// The length of the bytes of a body in its first fragment.
    const FIRST: usize = MIN_FRAGMENT_BODY - 4;

    #[test]
    fn interleaved_bodies_are_assembled() {
        let mut reassembly = Reassembly::default();
        let (request, item) = (header(FrameType::Request, 1), header(FrameType::CallerItem, 1));
        assert_eq!(reassembly.add(request, &first(FIRST + MIN_FRAGMENT_BODY + 1), LIMIT), Ok(None));
        assert_eq!(reassembly.add(item, &first(FIRST + 3), LIMIT), Ok(None));
        assert_eq!(reassembly.add(request, &[2; MIN_FRAGMENT_BODY], LIMIT), Ok(None));
        assert_eq!(reassembly.oldest(), Some((1, 1)));
        assert!(!reassembly.expects(&header(FrameType::Request, 2)) && reassembly.expects(&item));
        let Some(Inbound::Frame(frame)) = complete(&mut reassembly, request, &[3]) else { panic!() };
        assert_eq!(frame.header.body_length(), frame.body.len());
        assert_eq!(frame.body, [&[1; FIRST][..], &[2; MIN_FRAGMENT_BODY], &[3]].concat());
        assert_eq!(reassembly.oldest(), Some((2, 1)));
        assert!(complete(&mut reassembly, item, &[4; 3]).is_some() && reassembly.bodies.is_empty());
    }

    #[test]
    fn bodies_are_limited_at_the_limit_and_one_above() {
        let header = header(FrameType::Response, 7);
        for (over, is_overlong) in [(0, false), (1, true)] {
            let mut reassembly = Reassembly::default();
            let length = LIMIT as usize - HEADER_LEN + over;
            let overlong = reassembly.add(header, &first(length), LIMIT).unwrap();
            assert_eq!(overlong, is_overlong.then_some(Header { full_length: LIMIT + 1, ..header }));
            assert_eq!(reassembly.bodies[0].bytes.is_empty(), is_overlong);
            assert_eq!(complete(&mut reassembly, header, &vec![0; length - FIRST]).is_none(), is_overlong);
            assert!(reassembly.bodies.is_empty());
        }
        let too_long = 16 * LIMIT as usize - HEADER_LEN + 1;
        assert_eq!(
            Reassembly::default().add(header, &first(too_long), LIMIT),
            Err(Violation::TooLong { length: 16 * LIMIT + 1, limit: LIMIT })
        );
    }

    #[test]
    fn announced_length_does_not_allocate() {
        let mut reassembly = Reassembly::default();
        let limit = 8 << 20;
        reassembly.add(header(FrameType::Request, 1), &first(limit - 100), limit as u32).unwrap();
        assert!(reassembly.bodies[0].bytes.capacity() <= 2 * UNPROVED);
    }

    #[test]
    fn wrong_lengths_are_violations() {
        let request = header(FrameType::Request, 1);
        let wrong = Violation::FragmentLength(1);
        for total in [0, FIRST] {
            assert_eq!(Reassembly::default().add(request, &first(total), LIMIT), Err(wrong.clone()));
        }
        let begun = || {
            let mut reassembly = Reassembly::default();
            reassembly.add(request, &first(FIRST + MIN_FRAGMENT_BODY), LIMIT).unwrap();
            reassembly
        };
        assert_eq!(begun().add(request, &[0; MIN_FRAGMENT_BODY], LIMIT), Err(wrong.clone()));
        assert_eq!(begun().complete(&request, &[0; MIN_FRAGMENT_BODY - 1], LIMIT), Err(wrong.clone()));
        assert_eq!(begun().complete(&request, &[0; MIN_FRAGMENT_BODY + 1], LIMIT), Err(wrong));
    }

    #[test]
    fn fragments_that_break_the_rules_are_violations() {
        let mut reassembly = Reassembly::default();
        let mut add = |frame_type, id, fragment: &[u8]| reassembly.add(header(frame_type, id), fragment, LIMIT);
        let first = first(90_000);
        assert_eq!(add(FrameType::Ping, 1, &first), Err(Violation::UnknownType(0x83)));
        let short = MIN_FRAGMENT_BODY - 1;
        assert_eq!(add(FrameType::Request, 1, &first[..short]), Err(Violation::ShortFragment(short)));
        for id in 1..=MAX_FRAGMENTED_BODIES as u32 {
            assert_eq!(add(FrameType::Request, id, &first), Ok(None));
        }
        assert_eq!(add(FrameType::Request, 1, &first), Ok(None), "the second fragment of a body");
        assert_eq!(add(FrameType::Request, 9, &first), Err(Violation::TooManyFragmented));
    }

    #[test]
    fn cancelled_call_leaves_no_fragments() {
        let mut reassembly = Reassembly::default();
        for (frame_type, id) in [(FrameType::Request, 1), (FrameType::Response, 1), (FrameType::CallerItem, 2)] {
            reassembly.add(header(frame_type, id), &first(90_000), LIMIT).unwrap();
        }
        [1, 2].into_iter().for_each(|id| reassembly.cancel(id));
        assert_eq!(reassembly.bodies.len(), 1);
        assert_eq!(reassembly.bodies[0].header.frame_type, FrameType::Response);
    }
}
