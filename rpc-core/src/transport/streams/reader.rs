//! [`ItemReader`]: the reader of received items.

use std::{
    sync::Arc,
    task::{self, Poll, ready},
};

use super::{
    credit::Credit,
    queue::{Item, ItemQueue, QueueEnd, TakenItems},
};
use crate::{Code, Error, Payload, PeerWork, Received, ReceivedItems, Reply, frame::Frame};

/// The end of a connection to which a stream belongs, for its reader.
pub trait StreamReader: Send {
    /// Grants the sender of the items credit, in bytes.
    fn grant(&mut self, credit: u32);

    /// Returns the reply in the frame with which the peer has ended the call.
    ///
    /// # Errors
    ///
    /// The error of the call.
    fn read_end(&mut self, frame: Frame) -> Result<Reply, Error>;

    /// Returns the reply of a stream that has ended without a status.
    fn finished(&mut self) -> Reply;

    /// Returns the largest decompressed item, in bytes.
    fn max_decompressed(&self) -> usize;

    /// Returns whether the peer drains.
    fn is_draining(&self) -> bool;

    /// Returns the place in the line for long work of the peer.
    fn work(&self) -> PeerWork;

    /// Records that the reader was dropped before the end of the stream.
    fn abandon(&mut self);
}

/// The reader of the items of one stream.
pub struct ItemReader<R: StreamReader> {
    queue: Arc<ItemQueue>,
    taken: TakenItems,
    /// The length of the item that was returned last, as it was received.
    received: usize,
    /// The length and the cost of items that were read and are not released.
    unreleased: (usize, u64),
    ended: bool,
    end: R,
}

impl<R: StreamReader> ItemReader<R> {
    /// Creates the only reader of `queue`.
    pub fn new(queue: Arc<ItemQueue>, end: R) -> Self {
        Self { queue, taken: TakenItems::default(), received: 0, unreleased: (0, 0), ended: false, end }
    }

    /// Releases the items that were read, and grants credit for them.
    fn flush(&mut self) {
        let (length, cost) = std::mem::take(&mut self.unreleased);
        if length > 0
            && let Some(credit) = self.queue.release(length, cost)
        {
            self.end.grant(credit);
        }
    }
}

impl<R: StreamReader> ReceivedItems for ItemReader<R> {
    fn poll_item(&mut self, cx: &mut task::Context<'_>) -> Poll<Received> {
        loop {
            if let Some(Item { codec, compression, bytes }) = self.taken.next() {
                self.received = bytes.len() + Credit::PER_ITEM;
                let max_decompressed = self.end.max_decompressed();
                return Poll::Ready(Received::Item(Payload { codec, compression, bytes, max_decompressed }));
            }
            self.flush();
            if ready!(self.queue.poll_take(&mut self.taken, cx)).is_none() {
                self.ended = true;
                let end = match self.queue.take_end() {
                    Some(QueueEnd::Answered(frame)) => self.end.read_end(frame),
                    Some(QueueEnd::Lost(error)) => Err(error),
                    Some(QueueEnd::Finished) => Ok(self.end.finished()),
                    None => Err(Error::unknown(Code::Internal, "the stream has ended without a reason")),
                };
                return Poll::Ready(Received::End(end));
            }
        }
    }

    fn release(&mut self, length: usize) {
        let (received, cost) = &mut self.unreleased;
        *received += std::mem::take(&mut self.received);
        *cost += Credit::cost(length);
        if *received >= RELEASED_AT_ONCE {
            self.flush();
        }
    }

    fn is_draining(&self) -> bool {
        self.end.is_draining()
    }

    fn work(&self) -> PeerWork {
        self.end.work()
    }
}

impl<R: StreamReader> Drop for ItemReader<R> {
    fn drop(&mut self) {
        self.queue.abandon();
        if !self.ended {
            self.end.abandon();
        }
    }
}

/// The length of items that a reader reads before it releases them, in bytes.
const RELEASED_AT_ONCE: usize = 16 << 10;
