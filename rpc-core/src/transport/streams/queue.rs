//! [`ItemQueue`]: received items that wait for their reader.

use std::{
    collections::VecDeque,
    num::NonZero,
    sync::{Arc, PoisonError},
    task::{self, Poll, Waker},
};

use bytes::{Bytes, BytesMut};

use super::{
    credit::Credit,
    memory::{Reserved, StreamMemory},
};
use crate::{
    Error,
    frame::{Frame, Violation},
    sync::{Mutex, MutexGuard},
};

/// The items of one stream that were received and not read yet.
///
/// The driver of the connection adds items; an [`ItemReader`](super::ItemReader) takes them and grants credit.
#[derive(Debug)]
pub struct ItemQueue {
    state: Mutex<State>,
    id: u32,
    /// The credit to which the window of the stream grows when its reader reads, in bytes.
    max_window: u32,
}

#[derive(Debug)]
struct State {
    waiting: Items,
    /// The credit that the peer has left, as this end knows it.
    balance: i64,
    /// The credit that the peer has when the reader has read everything.
    window: u32,
    /// The cost of items that were read and for which no credit was granted yet.
    ungranted: u64,
    /// The length of items that are not released by their reader.
    unread: usize,
    memory: Reserved,
    /// How the stream ended, until the reader takes it.
    end: Option<QueueEnd>,
    ended_by: Option<EndedBy>,
    reader: Option<Waker>,
    reader_is_gone: bool,
}

/// The end of the connection that has ended a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndedBy {
    /// The peer sends nothing more.
    Peer,
    /// Frames that the peer has sent before it knows are dropped.
    Here,
}

/// The end of a stream.
#[derive(Debug)]
pub enum QueueEnd {
    /// The peer has ended its stream regularly, with a frame that has no status.
    Finished,
    /// The peer has ended the call with this frame.
    Answered(Frame),
    /// The stream ended early.
    Lost(Error),
}

/// Items in the order of their arrival.
///
/// Short ones are copied into one allocation: otherwise each would hold a whole buffer of the connection.
#[derive(Debug, Default)]
pub(super) struct Items {
    short: BytesMut,
    long: VecDeque<Bytes>,
    entries: VecDeque<Entry>,
}

/// An item, without its content. It is smaller than [`Credit::PER_ITEM`].
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The length of a short item; the content of a long one is the next of `long`.
    short: Option<NonZero<u32>>,
    codec: u8,
    compression: u8,
}

const _: () = assert!(size_of::<Entry>() < Credit::PER_ITEM);

/// Items that their reader has taken.
#[derive(Debug, Default)]
pub(super) struct TakenItems {
    short: Bytes,
    long: VecDeque<Bytes>,
    entries: VecDeque<Entry>,
}

/// An item of a stream.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) codec: u8,
    pub(super) compression: u8,
    pub(super) bytes: Bytes,
}

/// Why an item was not added.
#[derive(Debug)]
pub(super) enum PushError {
    Violation(Violation),
    /// No memory is free for an item that exceeds the credit.
    OutOfMemory,
}

impl ItemQueue {
    /// Creates the queue of call `id`, whose window grows to `max_window` bytes. Returns `None` if no memory is free.
    pub fn new(id: u32, max_window: u32, memory: &Arc<StreamMemory>) -> Option<Arc<Self>> {
        let window = Credit::INITIAL;
        let state = State {
            waiting: Items::default(),
            balance: window.into(),
            window,
            ungranted: 0,
            unread: 0,
            memory: memory.reserve(window as usize)?,
            end: None,
            ended_by: None,
            reader: None,
            reader_is_gone: false,
        };
        Some(Arc::new(Self { state: Mutex::new(state), id, max_window }))
    }

    /// Adds an item.
    pub(super) fn push(&self, frame: Frame) -> Result<(), PushError> {
        let Frame { header, body } = frame;
        let mut state = self.lock();
        match state.ended_by {
            Some(EndedBy::Here) => return Ok(()),
            Some(EndedBy::Peer) => return Err(PushError::Violation(Violation::AfterEnd(self.id))),
            None => {}
        }
        if state.balance <= 0 {
            return Err(PushError::Violation(Violation::NoCredit(self.id)));
        }
        // A compressed item costs its sender more, which `release` subtracts when its length is known.
        state.balance -= Credit::cost(body.len()) as i64;
        if state.reader_is_gone {
            return Ok(());
        }
        let length = body.len() + Credit::PER_ITEM;
        let missing = (state.unread + length).saturating_sub(state.memory.length());
        if missing > 0 && !state.memory.grow(missing) {
            return Err(PushError::OutOfMemory);
        }
        state.unread += length;
        state.waiting.push(Item { codec: header.codec, compression: header.compression, bytes: body });
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Ends the stream, unless it has ended.
    pub fn end(&self, end: QueueEnd) -> bool {
        let (ended, reader) = self.end_quietly(end);
        reader.into_iter().for_each(Waker::wake);
        ended
    }

    /// As [`end`](Self::end), but returns the waker of the reader instead of waking it.
    pub fn end_quietly(&self, end: QueueEnd) -> (bool, Option<Waker>) {
        let mut state = self.lock();
        if state.ended_by.is_some() {
            return (false, None);
        }
        state.ended_by = Some(if matches!(end, QueueEnd::Lost(_)) { EndedBy::Here } else { EndedBy::Peer });
        state.end = Some(end);
        (true, state.reader.take())
    }

    /// Wakes the reader, because the peer drains.
    pub fn wake_reader(&self) {
        let reader = self.lock().reader.take();
        reader.into_iter().for_each(Waker::wake);
    }

    /// Takes all waiting items into `taken`; `None` if there are none and the stream has ended.
    pub(super) fn poll_take(&self, taken: &mut TakenItems, cx: &mut task::Context<'_>) -> Poll<Option<()>> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if !state.waiting.entries.is_empty() {
            state.waiting.move_to(taken);
            return Poll::Ready(Some(()));
        }
        if state.ended_by.is_some() {
            return Poll::Ready(None);
        }
        taken.shrink();
        let previous = state.reader.replace(waker);
        drop(state);
        drop(previous);
        Poll::Pending
    }

    /// Takes the end of the stream, behind its last item.
    pub(super) fn take_end(&self) -> Option<QueueEnd> {
        self.lock().end.take()
    }

    /// Records that the reader has read items: `length` bytes as they were received, of this cost for their sender.
    ///
    /// Returns the credit to grant now: at least half of the window, so that few frames are sent.
    pub(super) fn release(&self, length: usize, cost: u64) -> Option<u32> {
        let mut state = self.lock();
        state.unread = state.unread.saturating_sub(length);
        state.balance -= cost as i64 - length as i64;
        state.ungranted += cost;
        if state.ended_by.is_some() || state.ungranted < u64::from(state.window / 2) {
            return None;
        }
        let larger = self.max_window.saturating_sub(state.window);
        let mut granted = std::mem::take(&mut state.ungranted);
        // The memory that a long item has taken is returned first.
        let (kept, unread) = (state.window as usize, state.unread);
        state.memory.shrink(kept.max(unread));
        if larger > 0 && state.memory.grow_if_half_free(larger as usize) {
            state.window = self.max_window;
            granted += u64::from(larger);
        }
        let granted = u32::try_from(granted).unwrap_or(u32::MAX);
        state.balance += i64::from(granted);
        Some(granted)
    }

    /// Records that no reader will read the items.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.reader_is_gone = true;
        let waiting = std::mem::take(&mut state.waiting);
        state.memory.shrink(0);
        drop(state);
        drop(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Items {
    fn push(&mut self, Item { codec, compression, bytes }: Item) {
        // An empty item counts as a long one, whose content holds no buffer.
        let short = NonZero::new(bytes.len() as u32).filter(|_| bytes.len() < MIN_LONG);
        if short.is_some() {
            self.short.extend_from_slice(&bytes);
        } else {
            self.long.push_back(if bytes.is_empty() { Bytes::new() } else { bytes });
        }
        self.entries.push_back(Entry { short, codec, compression });
    }

    /// Moves all items to `taken`, which has none.
    fn move_to(&mut self, taken: &mut TakenItems) {
        taken.short = std::mem::take(&mut self.short).freeze();
        std::mem::swap(&mut taken.long, &mut self.long);
        std::mem::swap(&mut taken.entries, &mut self.entries);
    }
}

impl TakenItems {
    pub(super) fn next(&mut self) -> Option<Item> {
        let Entry { short, codec, compression } = self.entries.pop_front()?;
        let bytes = match short {
            Some(length) => self.short.split_to(length.get() as usize),
            None => self.long.pop_front().unwrap_or_default(),
        };
        Some(Item { codec, compression, bytes })
    }

    /// Releases the memory of items that were read, because the reader waits for more.
    fn shrink(&mut self) {
        if self.entries.capacity() > MAX_KEPT {
            *self = Self::default();
        }
        self.short = Bytes::new();
    }
}

/// The number of items for which a waiting reader keeps memory.
const MAX_KEPT: usize = 64;
/// The length from which an item holds the buffer in which it was received, in bytes.
const MIN_LONG: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FrameType, Header};

    fn frame(length: usize) -> Frame {
        Frame { header: Header::empty(FrameType::CalleeItem, 1), body: Bytes::from(vec![7; length]) }
    }

    fn queue(limit: usize) -> (Arc<ItemQueue>, Arc<StreamMemory>) {
        let memory = StreamMemory::new(limit);
        (ItemQueue::new(1, 256 << 10, &memory).unwrap(), memory)
    }

    fn read(queue: &ItemQueue) -> Vec<usize> {
        let mut taken = TakenItems::default();
        let cx = &mut task::Context::from_waker(Waker::noop());
        assert!(queue.poll_take(&mut taken, cx).is_ready());
        std::iter::from_fn(|| taken.next()).map(|item| item.bytes.len()).collect()
    }

    #[test]
    fn items_without_credit_are_a_violation() {
        let (queue, _memory) = queue(1 << 20);
        for length in [0, 65_503] {
            queue.push(frame(length)).unwrap();
        }
        queue.push(frame(100_000)).expect("the credit is 1");
        assert!(matches!(queue.push(frame(0)), Err(PushError::Violation(Violation::NoCredit(1)))));
        assert_eq!(read(&queue), [0, 65_503, 100_000]);
    }

    #[test]
    fn window_grows_with_the_first_grant() {
        let (queue, memory) = queue(1 << 20);
        queue.push(frame(32_752)).unwrap();
        assert_eq!(read(&queue), [32_752]);
        assert_eq!(queue.release(32_768, 32_768), Some(32_768 + (192 << 10)));
        assert_eq!(memory.used(), 256 << 10, "less than half of the memory");
        queue.push(frame(100_000)).unwrap();
        assert_eq!(queue.release(100_016, 100_016), None, "less than half of the window");
    }

    #[test]
    fn long_item_takes_memory_until_it_is_read() {
        let (queue, memory) = queue(200_000);
        queue.push(frame(150_000)).unwrap();
        assert_eq!(memory.used(), 150_016);
        assert_eq!(read(&queue), [150_000]);
        assert_eq!(queue.release(150_016, 150_016), Some(150_016), "no memory for a larger window");
        assert_eq!(memory.used(), 64 << 10);
        assert!(matches!(queue.push(frame(250_000)), Err(PushError::OutOfMemory)));
        drop(queue);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn items_after_the_end_are_a_violation() {
        let (queue, _memory) = queue(1 << 20);
        queue.push(frame(1)).unwrap();
        assert!(queue.end(QueueEnd::Finished) && !queue.end(QueueEnd::Finished));
        assert!(matches!(queue.push(frame(1)), Err(PushError::Violation(Violation::AfterEnd(1)))));
        assert_eq!(read(&queue), [1], "items before the end are read");
        assert!(matches!(queue.take_end(), Some(QueueEnd::Finished)));
    }

    #[test]
    fn items_that_cross_an_end_of_this_side_are_dropped() {
        let (queue, _memory) = queue(1 << 20);
        assert!(queue.end(QueueEnd::Lost(Error::unknown(crate::Code::Cancelled, ""))));
        for _ in 0..2 {
            queue.push(frame(1)).unwrap();
            queue.take_end();
        }
        assert!(!queue.end(QueueEnd::Finished));
    }

    #[test]
    fn compressed_items_grant_what_they_cost_their_sender() {
        let (queue, _memory) = queue(70_000);
        // An item of 1000 bytes that is 60 000 bytes long when it is decompressed.
        queue.push(frame(1000)).unwrap();
        assert_eq!(read(&queue), [1000]);
        assert_eq!(queue.release(1016, 60_016), Some(60_016));
        // The credit is that of the start again.
        queue.push(frame(65_519)).unwrap();
        queue.push(frame(0)).unwrap();
        assert!(matches!(queue.push(frame(0)), Err(PushError::Violation(Violation::NoCredit(1)))));
    }

    #[test]
    fn items_of_an_abandoned_queue_take_no_memory() {
        let (queue, memory) = queue(1 << 20);
        queue.push(frame(10)).unwrap();
        queue.abandon();
        queue.push(frame(10)).unwrap();
        assert_eq!(memory.used(), 0);
    }
}
