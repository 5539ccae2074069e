//! [`ItemQueue`]: received items that wait for their reader.

use std::{
    collections::VecDeque,
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
    end: Option<QueueEnd>,
    reader: Option<Waker>,
    reader_is_gone: bool,
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
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    codec: u8,
    compression: u8,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// The length of an item in `short`.
    Short(u32),
    Long(Bytes),
}

/// Items that their reader has taken.
#[derive(Debug, Default)]
pub(super) struct TakenItems {
    short: Bytes,
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
            reader: None,
            reader_is_gone: false,
        };
        Some(Arc::new(Self { state: Mutex::new(state), id, max_window }))
    }

    /// Adds an item.
    pub(super) fn push(&self, frame: Frame) -> Result<(), PushError> {
        let Frame { header, body } = frame;
        let mut state = self.lock();
        if state.end.is_some() {
            // A stream that this end has ended may still receive items that crossed the end.
            return match state.end {
                Some(QueueEnd::Lost(_)) => Ok(()),
                _ => Err(PushError::Violation(Violation::AfterEnd(self.id))),
            };
        }
        if state.balance <= 0 {
            return Err(PushError::Violation(Violation::NoCredit(self.id)));
        }
        // A compressed item costs its sender more. The reader grants that cost when it has decompressed the item, so the
        // balance is a lower bound of what the sender may send.
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
        let mut state = self.lock();
        if state.end.is_some() {
            return false;
        }
        state.end = Some(end);
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        true
    }

    /// Returns whether the stream has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().end.is_some()
    }

    /// Takes all waiting items into `taken`; `None` if there are none and the stream has ended.
    pub(super) fn poll_take(&self, taken: &mut TakenItems, cx: &mut task::Context<'_>) -> Poll<Option<()>> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if !state.waiting.entries.is_empty() {
            state.waiting.move_to(taken);
            return Poll::Ready(Some(()));
        }
        if state.end.is_some() {
            return Poll::Ready(None);
        }
        let previous = state.reader.replace(waker);
        drop(state);
        drop(previous);
        Poll::Pending
    }

    /// Takes the end of the stream, behind its last item.
    pub(super) fn take_end(&self) -> Option<QueueEnd> {
        // The reader reads nothing more, so a later end has no meaning.
        self.lock().end.replace(QueueEnd::Finished)
    }

    /// Records that the reader has read items: `length` bytes as they were received, of this cost for their sender.
    ///
    /// Returns the credit to grant now: at least half of the window, so that few frames are sent.
    pub(super) fn release(&self, length: usize, cost: u64) -> Option<u32> {
        let mut state = self.lock();
        state.unread = state.unread.saturating_sub(length);
        state.ungranted += cost;
        if state.end.is_some() || state.ungranted < u64::from(state.window / 2) {
            return None;
        }
        let larger = self.max_window.saturating_sub(state.window);
        let mut granted = std::mem::take(&mut state.ungranted);
        // The memory of a long item becomes that of a larger window.
        let spare = state.memory.length().saturating_sub(state.window as usize);
        if larger > 0 && (spare >= larger as usize || state.memory.grow(larger as usize - spare)) {
            state.window = self.max_window;
            granted += u64::from(larger);
        }
        let (kept, unread) = (state.window as usize, state.unread);
        state.memory.shrink(kept.max(unread));
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
        let content = if bytes.len() < MIN_LONG {
            self.short.extend_from_slice(&bytes);
            Content::Short(bytes.len() as u32)
        } else {
            Content::Long(bytes)
        };
        self.entries.push_back(Entry { codec, compression, content });
    }

    fn move_to(&mut self, taken: &mut TakenItems) {
        taken.short = std::mem::take(&mut self.short).freeze();
        std::mem::swap(&mut taken.entries, &mut self.entries);
    }
}

impl TakenItems {
    pub(super) fn next(&mut self) -> Option<Item> {
        let Entry { codec, compression, content } = self.entries.pop_front()?;
        let bytes = match content {
            Content::Short(length) => self.short.split_to(length as usize),
            Content::Long(bytes) => bytes,
        };
        Some(Item { codec, compression, bytes })
    }
}

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
        assert_eq!(memory.used(), 256 << 10);
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
    fn items_of_an_abandoned_queue_take_no_memory() {
        let (queue, memory) = queue(1 << 20);
        queue.push(frame(10)).unwrap();
        queue.abandon();
        queue.push(frame(10)).unwrap();
        assert_eq!(memory.used(), 0);
    }
}
