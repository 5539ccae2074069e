//! [`Reassembly`]: assembles bodies that arrive in fragments.

use bytes::{Bytes, BytesMut};

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

/// The fragments of one frame.
#[derive(Debug)]
struct Body {
    /// The header of the first fragment.
    header: Header,
    /// The bodies of the fragments; empty if the frame is longer than the limit.
    fragments: Vec<Bytes>,
    /// The length of the fragments' bodies, in bytes.
    length: usize,
    /// The ordinal number of the body on this connection.
    number: u64,
}

impl Reassembly {
    /// Returns whether no body is incomplete.
    pub(super) fn is_empty(&self) -> bool {
        self.bodies.is_empty()
    }

    /// Returns the oldest incomplete body: its ordinal number on this connection, and the id of its call.
    pub(super) fn oldest(&self) -> Option<(u64, u32)> {
        self.bodies.first().map(|body| (body.number, body.header.id))
    }

    /// Adds a fragment that is not the last one of its body.
    ///
    /// # Errors
    ///
    /// The [`Violation`] for which the connection must close.
    pub(super) fn add(&mut self, header: Header, fragment: Bytes, max_frame: u32) -> Result<(), Violation> {
        if !header.frame_type.may_be_fragmented() {
            return Err(Violation::UnknownType(header.frame_type.as_u8() | MORE_FRAGMENTS));
        }
        if fragment.len() < MIN_FRAGMENT_BODY {
            return Err(Violation::ShortFragment(fragment.len()));
        }
        match self.position(&header) {
            Some(index) => self.bodies[index].add(fragment, max_frame),
            None if self.bodies.len() == MAX_FRAGMENTED_BODIES => Err(Violation::TooManyFragmented),
            None => {
                self.begun += 1;
                let mut body = Body { header, fragments: Vec::new(), length: 0, number: self.begun };
                body.add(fragment, max_frame)?;
                self.bodies.push(body);
                Ok(())
            }
        }
    }

    /// Completes the body whose last fragment this is; returns `None` if `header` and `fragment` are a whole frame.
    ///
    /// # Errors
    ///
    /// The [`Violation`] for which the connection must close.
    pub(super) fn complete(
        &mut self,
        header: &Header,
        fragment: &Bytes,
        max_frame: u32,
    ) -> Result<Option<Inbound>, Violation> {
        let Some(index) = self.position(header) else { return Ok(None) };
        let mut body = self.bodies.remove(index);
        body.add(fragment.clone(), max_frame)?;
        Ok(Some(body.complete(max_frame)))
    }

    /// Discards the incomplete bodies of a caller's call, which the caller has cancelled.
    pub(super) fn cancel(&mut self, id: u32) {
        let is_of_call = |header: &Header| {
            header.id == id && matches!(header.frame_type, FrameType::Request | FrameType::CallerItem)
        };
        self.bodies.retain(|body| !is_of_call(&body.header));
    }

    /// Discards the incomplete body of the frame with this header, if there is one.
    pub(super) fn discard(&mut self, header: &Header) {
        if let Some(index) = self.position(header) {
            self.bodies.remove(index);
        }
    }

    fn position(&self, header: &Header) -> Option<usize> {
        let is_same = |body: &Body| body.header.id == header.id && body.header.frame_type == header.frame_type;
        self.bodies.iter().position(is_same)
    }
}

impl Body {
    fn add(&mut self, fragment: Bytes, max_frame: u32) -> Result<(), Violation> {
        self.length += fragment.len();
        let (length, limit) = ((HEADER_LEN + self.length) as u64, u64::from(max_frame));
        if length > limit * u64::from(MAX_SKIPPED_LENGTH_RATIO) {
            return Err(Violation::TooLong { length: u32::try_from(length).unwrap_or(u32::MAX), limit: max_frame });
        }
        if length > limit {
            self.fragments = Vec::new();
        } else {
            self.fragments.push(fragment);
        }
        Ok(())
    }

    fn complete(self, max_frame: u32) -> Inbound {
        let full_length = (HEADER_LEN + self.length) as u32;
        let header = Header { full_length, ..self.header };
        if full_length > max_frame {
            return Inbound::Overlong(header);
        }
        let mut body = BytesMut::with_capacity(self.length);
        self.fragments.iter().for_each(|fragment| body.extend_from_slice(fragment));
        Inbound::Frame(Frame { header, body: body.freeze() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 100 << 10;

    fn header(frame_type: FrameType, id: u32) -> Header {
        Header::empty(frame_type, id)
    }

    fn fragment(byte: u8, length: usize) -> Bytes {
        vec![byte; length].into()
    }

    fn complete(reassembly: &mut Reassembly, header: Header, fragment: Bytes) -> Option<Inbound> {
        reassembly.complete(&header, &fragment, LIMIT).unwrap()
    }

    #[test]
    fn interleaved_bodies_are_assembled() {
        let mut reassembly = Reassembly::default();
        let (first, second) = (header(FrameType::Request, 1), header(FrameType::CallerItem, 1));
        reassembly.add(first, fragment(1, MIN_FRAGMENT_BODY), LIMIT).unwrap();
        reassembly.add(second, fragment(2, MIN_FRAGMENT_BODY), LIMIT).unwrap();
        assert_eq!(reassembly.oldest(), Some((1, 1)));
        assert_eq!(complete(&mut reassembly, header(FrameType::Request, 2), Bytes::new()), None, "a whole frame");
        let Some(Inbound::Frame(frame)) = complete(&mut reassembly, first, fragment(3, 1)) else { panic!() };
        assert_eq!(frame.header.body_length(), MIN_FRAGMENT_BODY + 1);
        assert_eq!(frame.body, [fragment(1, MIN_FRAGMENT_BODY), fragment(3, 1)].concat());
        assert_eq!(reassembly.oldest(), Some((2, 1)));
        assert!(complete(&mut reassembly, second, Bytes::new()).is_some() && reassembly.is_empty());
    }

    #[test]
    fn bodies_are_limited_at_the_limit_and_one_above() {
        for (last, is_overlong) in [(0, false), (1, true)] {
            let mut reassembly = Reassembly::default();
            let header = header(FrameType::Response, 7);
            reassembly.add(header, fragment(0, LIMIT as usize - HEADER_LEN), LIMIT).unwrap();
            let completed = complete(&mut reassembly, header, fragment(0, last)).unwrap();
            let overlong = Header { full_length: LIMIT + 1, ..header };
            assert_eq!(completed == Inbound::Overlong(overlong), is_overlong);
        }
    }

    #[test]
    fn endless_body_is_a_violation_and_holds_no_memory() {
        let mut reassembly = Reassembly::default();
        let header = header(FrameType::Response, 7);
        let mut add = || reassembly.add(header, fragment(0, LIMIT as usize), LIMIT);
        let violation = (0..MAX_SKIPPED_LENGTH_RATIO).map(|_| add()).find_map(Result::err);
        assert_eq!(violation, Some(Violation::TooLong { length: 16 * LIMIT + 16, limit: LIMIT }));
        assert!(reassembly.bodies[0].fragments.is_empty());
    }

    #[test]
    fn fragments_that_break_the_rules_are_violations() {
        let mut reassembly = Reassembly::default();
        let mut add = |frame_type, id, length| reassembly.add(header(frame_type, id), fragment(0, length), LIMIT);
        assert_eq!(add(FrameType::Ping, 1, MIN_FRAGMENT_BODY), Err(Violation::UnknownType(0x83)));
        let short = MIN_FRAGMENT_BODY - 1;
        assert_eq!(add(FrameType::Request, 1, short), Err(Violation::ShortFragment(short)));
        for id in 1..=MAX_FRAGMENTED_BODIES as u32 {
            assert_eq!(add(FrameType::Request, id, MIN_FRAGMENT_BODY), Ok(()));
        }
        assert_eq!(add(FrameType::Request, 1, MIN_FRAGMENT_BODY), Ok(()), "the second fragment of a body");
        assert_eq!(add(FrameType::Request, 9, MIN_FRAGMENT_BODY), Err(Violation::TooManyFragmented));
    }

    #[test]
    fn cancelled_call_loses_its_fragments() {
        let mut reassembly = Reassembly::default();
        for (frame_type, id) in [(FrameType::Request, 1), (FrameType::Response, 1), (FrameType::CallerItem, 2)] {
            reassembly.add(header(frame_type, id), fragment(0, MIN_FRAGMENT_BODY), LIMIT).unwrap();
        }
        [1, 2].into_iter().for_each(|id| reassembly.cancel(id));
        assert_eq!(reassembly.bodies.len(), 1);
        assert_eq!(reassembly.bodies[0].header.frame_type, FrameType::Response);
    }
}
