//! [`BulkQueue`]: long frames and items, queued by call and sent in turn.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, BufMut};

use crate::{
    WriteBuffer,
    frame::{FRAGMENT, FrameType, HEADER_LEN, Header, MAX_UNFRAGMENTED, MORE_FRAGMENTS, TYPE_AT},
};

/// Frames that would delay short ones: long requests and responses, and the items of streams. Guarded by the lock of the
/// outbox.
///
/// Each call has a queue of its own, in which its frames keep their order. The driver takes a share of each queue in turn.
/// A long frame is divided into fragments if the peer supports them, so that other frames pass between them.
#[derive(Debug, Default)]
pub(super) struct BulkQueue {
    /// The queues by the ids of their calls. None is empty.
    queues: BTreeMap<u32, CallQueue>,
    /// The ids of the queues in the order in which the driver serves them.
    order: VecDeque<u32>,
    /// The length of all queues, in bytes.
    length: usize,
    /// The number of bodies whose fragments the peer assembles at the same time; 0 if it supports none.
    fragmented: usize,
    /// The number of queues whose first frame is partly sent.
    begun: usize,
    /// Whether all queues wait for the acknowledgement of fragments.
    is_blocked: bool,
}

/// The frames of one call.
#[derive(Debug, Default)]
struct CallQueue {
    frames: WriteBuffer,
    /// The header of the frame of which `frames` begins with the remainder of the body, and the length of that remainder.
    rest: Option<(Header, usize)>,
    /// Whether the driver has taken any byte of the queue.
    begun: bool,
}

/// The state of the frames of a call that were removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    /// The queue had no frame of the call.
    None,
    /// The driver had taken some of the bytes.
    Begun,
    /// The driver had taken no byte.
    Unsent,
}

impl BulkQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Returns the number of bytes that the driver has not taken.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Permits fragments of `count` bodies at the same time.
    pub(super) fn permit_fragments(&mut self, count: usize) {
        self.fragmented = count;
    }

    /// Returns whether frames of this call wait.
    pub(super) fn contains(&self, id: u32) -> bool {
        self.queues.contains_key(&id)
    }

    /// Returns whether the request of this call waits and none of its bytes was taken.
    pub(super) fn is_unsent(&self, id: u32) -> bool {
        self.queues.get(&id).is_some_and(CallQueue::is_unsent)
    }

    /// Removes the frames of a call that has ended, unless one of them is partly sent.
    pub(super) fn discard(&mut self, id: u32) {
        if self.queues.get(&id).is_some_and(|queue| queue.rest.is_none()) {
            self.remove(id);
        }
    }

    /// Calls `write` to append a frame behind the frames of the call.
    pub(super) fn append<R>(&mut self, id: u32, write: impl FnOnce(&mut WriteBuffer) -> R) -> R {
        let queue = self.queues.entry(id).or_insert_with(|| {
            self.order.push_back(id);
            CallQueue::default()
        });
        self.is_blocked = false;
        let before = queue.frames.len();
        let result = write(&mut queue.frames);
        self.length += queue.frames.len() - before;
        if queue.frames.is_empty() {
            self.queues.remove(&id);
            self.order.pop_back();
        }
        result
    }

    /// Removes all frames of the call, also one that is partly sent.
    pub(super) fn remove(&mut self, id: u32) -> Removed {
        let Some(queue) = self.queues.remove(&id) else { return Removed::None };
        self.is_blocked = false;
        self.order.retain(|queued| *queued != id);
        self.length -= queue.frames.len();
        self.begun -= usize::from(queue.rest.is_some());
        if queue.is_unsent() { Removed::Unsent } else { Removed::Begun }
    }

    /// Returns whether the driver can take bytes, as far as is known: it cannot if all of them are fragments that exceeded
    /// the room at the last take.
    pub(super) fn has_sendable(&self) -> bool {
        !self.is_empty() && !self.is_blocked
    }

    /// Moves at least `amount` bytes to `out`, or all that can be sent: fragments only while they have fewer than `room`
    /// bytes. Begins to divide long frames only if `divides` is set. Returns the number of bytes appended to it, and how many of them are to be acknowledged.
    pub(super) fn take(&mut self, out: &mut WriteBuffer, amount: usize, room: usize, divides: bool) -> (usize, usize) {
        let (before, mut to_acknowledge) = (out.len(), 0);
        let mut passed_over = 0;
        while out.len() - before < amount && passed_over < self.order.len() {
            let Some(id) = self.order.pop_front() else { break };
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            let (length, was_begun) = (queue.frames.len(), queue.rest.is_some());
            let fragments = match () {
                () if !was_begun && (self.fragmented == 0 || !divides) => Fragments::None,
                () if to_acknowledge >= room || !was_begun && self.begun >= self.fragmented => Fragments::Wait,
                () => Fragments::Permitted,
            };
            let start = out.len();
            let taken = queue.take(out, fragments);
            if queue.rest.is_some() {
                to_acknowledge += out.len() - start;
            }
            passed_over = if taken { 0 } else { passed_over + 1 };
            self.length -= length - queue.frames.len();
            self.begun = self.begun + usize::from(queue.rest.is_some()) - usize::from(was_begun);
            if queue.frames.is_empty() {
                self.queues.remove(&id);
            } else {
                self.order.push_back(id);
            }
        }
        self.is_blocked = out.len() - before < amount && !self.is_empty();
        (out.len() - before, to_acknowledge)
    }
}

/// Whether a queue may send fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fragments {
    /// Long frames are sent whole: the peer supports no fragments, or there are no short frames.
    None,
    Permitted,
    /// So many bodies are partly sent, or so many fragments are not acknowledged, that a long frame has to wait.
    Wait,
}

impl CallQueue {
    /// Returns whether the request is in the queue and none of its bytes was taken.
    fn is_unsent(&self) -> bool {
        // Items may follow a request that was sent before.
        !self.begun && Header::parse(&self.frames.first()).is_ok_and(|header| header.frame_type == FrameType::Request)
    }

    /// Moves the next share to `out`: frames of about [`SHARE`] bytes, or one fragment. Returns whether it moved any.
    fn take(&mut self, out: &mut WriteBuffer, fragments: Fragments) -> bool {
        let before = out.len();
        if fragments != Fragments::Wait
            && let Some((header, rest)) = self.rest.take()
        {
            self.take_fragment(out, header, rest, false);
        } else if self.rest.is_none() {
            while out.len() - before < SHARE && !self.frames.is_empty() {
                // The frames were written by this workspace.
                let Ok(header) = Header::parse(&self.frames.first()) else { break };
                let length = header.full_length as usize;
                if length <= MAX_UNFRAGMENTED || fragments == Fragments::None {
                    self.frames.move_to(out, length);
                } else if fragments == Fragments::Permitted && out.len() == before {
                    self.frames.advance(HEADER_LEN);
                    self.take_fragment(out, header, length - HEADER_LEN, true);
                } else {
                    break;
                }
            }
        }
        let has_moved = out.len() > before;
        self.begun |= has_moved;
        has_moved
    }

    /// Moves the next fragment of a body, of which `rest` bytes are left. The first one announces the length.
    fn take_fragment(&mut self, out: &mut WriteBuffer, header: Header, rest: usize, is_first: bool) {
        let announcement = (rest as u32).to_be_bytes();
        let announcement = if is_first { &announcement[..] } else { &[] };
        let length = rest.min(FRAGMENT - HEADER_LEN - announcement.len());
        let full_length = (HEADER_LEN + announcement.len() + length) as u32;
        let mut bytes = Header { full_length, ..header }.to_bytes();
        if length < rest {
            bytes[TYPE_AT] |= MORE_FRAGMENTS;
            self.rest = Some((header, rest - length));
        }
        out.copied().put_slice(&bytes);
        out.copied().put_slice(announcement);
        self.frames.move_to(out, length);
    }
}

/// The number of bytes after which the driver continues with the next call. One frame or fragment may exceed it.
const SHARE: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        frame::Frame,
        transport::{FrameReader, Inbound},
    };

    fn frame(id: u32, length: usize) -> Frame {
        let body = Bytes::from_iter((0..length).map(|at| (at / 7) as u8 ^ id as u8));
        let full_length = (HEADER_LEN + length) as u32;
        let header = Header { full_length, codec: 1, ..Header::empty(FrameType::Request, id) };
        Frame { header, body }
    }

    fn append(bulk: &mut BulkQueue, frame: &Frame) {
        bulk.append(frame.header.id, |out| frame.write(out.copied()));
    }

    fn permitting(count: usize) -> BulkQueue {
        let mut bulk = BulkQueue::default();
        bulk.permit_fragments(count);
        bulk
    }

    /// Takes all frames in steps of `amount` bytes. Returns the ids and lengths of the frames and fragments.
    fn take_all(bulk: &mut BulkQueue, amount: usize) -> Vec<(u32, usize)> {
        let mut parts = Vec::new();
        while !bulk.is_empty() {
            let mut out = WriteBuffer::new();
            assert!(bulk.take(&mut out, amount, usize::MAX, true).0 > 0);
            let mut bytes = out.into_bytes();
            while !bytes.is_empty() {
                let mut header = *bytes.first_chunk::<HEADER_LEN>().unwrap();
                header[TYPE_AT] &= !MORE_FRAGMENTS;
                let header = Header::parse(&header).unwrap();
                parts.push((header.id, header.full_length as usize));
                bytes.advance(header.full_length as usize);
            }
        }
        parts
    }

    #[test]
    fn calls_send_their_shares_in_turn() {
        let mut bulk = permitting(4);
        for id in 1..=2 {
            for _ in 0..4 {
                append(&mut bulk, &frame(id, SHARE / 2));
            }
        }
        let ids: Vec<_> = take_all(&mut bulk, 1).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [1, 1, 2, 2, 1, 1, 2, 2]);
        assert_eq!(bulk.len(), 0);
    }

    #[test]
    fn long_frames_are_sent_in_fragments() {
        let mut bulk = permitting(4);
        append(&mut bulk, &frame(1, MAX_UNFRAGMENTED));
        append(&mut bulk, &frame(2, MAX_UNFRAGMENTED - HEADER_LEN));
        let rest = MAX_UNFRAGMENTED + 4 - 2 * (FRAGMENT - HEADER_LEN) + HEADER_LEN;
        assert_eq!(
            take_all(&mut bulk, 1),
            [(1, FRAGMENT), (2, MAX_UNFRAGMENTED), (1, FRAGMENT), (1, rest)],
            "one byte more than the longest whole frame"
        );
    }

    #[test]
    fn long_frames_wait_while_too_many_are_partly_sent() {
        let mut bulk = permitting(1);
        append(&mut bulk, &frame(1, 3 * FRAGMENT));
        append(&mut bulk, &frame(2, 3 * FRAGMENT));
        append(&mut bulk, &frame(3, 10));
        let ids: Vec<_> = take_all(&mut bulk, 1).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [1, 3, 1, 1, 1, 2, 2, 2, 2]);
    }

    #[test]
    fn long_frames_are_whole_without_permission() {
        let mut bulk = BulkQueue::default();
        append(&mut bulk, &frame(1, 3 * FRAGMENT));
        assert_eq!(take_all(&mut bulk, 1), [(1, 3 * FRAGMENT + HEADER_LEN)]);
        bulk.permit_fragments(4);
        append(&mut bulk, &frame(1, 3 * FRAGMENT));
        let whole = 3 * FRAGMENT + HEADER_LEN;
        assert_eq!(bulk.take(&mut WriteBuffer::new(), 1, 0, false), (whole, 0), "there are no short frames");
    }

    #[test]
    fn fragments_wait_for_room_and_whole_frames_pass() {
        let mut bulk = permitting(4);
        let take = |bulk: &mut BulkQueue, room| bulk.take(&mut WriteBuffer::new(), 10 * FRAGMENT, room, true);
        append(&mut bulk, &frame(1, 3 * FRAGMENT));
        append(&mut bulk, &frame(2, 10));
        assert_eq!(take(&mut bulk, 1), (FRAGMENT + 26, FRAGMENT));
        assert!(!bulk.has_sendable());
        assert_eq!(take(&mut bulk, 0), (0, 0));
        append(&mut bulk, &frame(2, 10));
        assert!(bulk.has_sendable());
        assert_eq!(take(&mut bulk, 0), (26, 0));
        assert_eq!(take(&mut bulk, FRAGMENT), (FRAGMENT, FRAGMENT));
        let last = 3 * FRAGMENT + 4 - 3 * (FRAGMENT - HEADER_LEN);
        assert_eq!(take(&mut bulk, 3 * FRAGMENT), (FRAGMENT + last + HEADER_LEN, FRAGMENT), "the last one has no ACK");
        assert!(bulk.is_empty());
    }

    #[test]
    fn removed_call_frees_its_bytes_and_its_place() {
        let mut bulk = permitting(1);
        append(&mut bulk, &frame(1, 3 * FRAGMENT));
        append(&mut bulk, &frame(2, 3 * FRAGMENT));
        assert!(bulk.is_unsent(1) && bulk.contains(2));
        bulk.take(&mut WriteBuffer::new(), 1, usize::MAX, true);
        assert!(!bulk.is_unsent(1) && bulk.contains(1));
        assert_eq!([1, 1, 2].map(|id| bulk.remove(id)), [Removed::Begun, Removed::None, Removed::Unsent]);
        assert_eq!((bulk.len(), bulk.begun, bulk.is_empty()), (0, 0, true));
    }

    #[test]
    fn items_behind_a_sent_request_do_not_make_it_unsent() {
        let mut bulk = permitting(1);
        append(&mut bulk, &frame(1, 10));
        assert!(bulk.is_unsent(1));
        take_all(&mut bulk, usize::MAX);
        let item = Frame { header: Header::empty(FrameType::CallerItem, 1), body: Bytes::new() };
        append(&mut bulk, &item);
        assert!(!bulk.is_unsent(1));
        bulk.discard(1);
        assert!(bulk.is_empty());
    }

    #[test]
    fn write_without_a_frame_leaves_no_queue() {
        let mut bulk = permitting(1);
        bulk.append(1, |_| ());
        assert!(bulk.is_empty());
    }

    proptest! {
        #[test]
        fn reader_assembles_the_frames_of_each_call_in_order(
            frames in proptest::collection::vec((1..6_u32, prop_oneof![0..100_usize, 100_000..400_000_usize]), 1..12),
            amount in 1..300_000_usize,
            permitted in 0..4_usize,
            long in any::<bool>(),
        ) {
            let mut bulk = permitting(permitted);
            let frames: Vec<_> = frames.into_iter().map(|(id, length)| frame(id, length)).collect();
            for frame in &frames {
                bulk.append(frame.header.id, |out| {
                    out.copied().put_slice(&frame.header.to_bytes());
                    if long { out.put_shared(frame.body.clone()) } else { out.copied().put_slice(&frame.body) }
                });
            }
            prop_assert_eq!(bulk.len(), frames.iter().map(|frame| frame.header.full_length as usize).sum::<usize>());
            let mut reader = FrameReader::new(FrameReader::MAX_FRAME);
            let mut found = Vec::new();
            while !bulk.is_empty() {
                let mut out = WriteBuffer::new();
                bulk.take(&mut out, amount, usize::MAX, true);
                reader.read_buffer().put_slice(&out.into_bytes());
                while let Some(Inbound::Frame(frame)) = reader.next_frame().unwrap() {
                    found.push(frame);
                }
            }
            prop_assert_eq!(bulk.len(), 0);
            for id in 1..6 {
                let of_call = |frames: &[Frame]| frames.iter().filter(|frame| frame.header.id == id).cloned().collect::<Vec<_>>();
                prop_assert_eq!(of_call(&found), of_call(&frames));
            }
        }
    }
}
