//! [`Inbox`]: the bounded queue of received messages, which detects lost ones.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{Received, frame::Frame};

/// The bounded queue of received messages.
pub(super) struct Inbox {
    /// The number by which this node recognises its own frames.
    sender: u64,
    state: Mutex<State>,
    /// Notified when the queue is not empty.
    filled: Notify,
}

#[derive(Default)]
struct State {
    /// At most [`MAX_MESSAGES`], of [`MAX_BYTES`] in total, and a gap after each.
    queue: VecDeque<Received>,
    messages: usize,
    bytes: usize,
    /// The number of the last message of each sender.
    last: HashMap<u64, u64>,
}

/// The outcome of [`Inbox::handle_frame`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handled {
    /// The queue has the message of another node, or a gap.
    Queued,
    /// This node sent the message.
    Own,
    /// This node sent the marker.
    OwnMarker,
    /// The frame is malformed, or the marker of another node.
    Ignored,
}

impl Inbox {
    /// Creates an empty queue that drops the messages of `sender`.
    pub(super) fn new(sender: u64) -> Self {
        Self { sender, state: Mutex::default(), filled: Notify::new() }
    }

    /// Takes a received frame.
    pub(super) fn handle_frame(&self, bytes: &Bytes) -> Handled {
        match Frame::decode(bytes) {
            None => Handled::Ignored,
            Some(frame) if frame.sender == self.sender => {
                if frame.number == 0 {
                    Handled::OwnMarker
                } else {
                    Handled::Own
                }
            }
            Some(frame) if frame.number == 0 => Handled::Ignored,
            Some(frame) => {
                self.state().push(frame);
                self.filled.notify_one();
                Handled::Queued
            }
        }
    }

    /// Reports that messages may have been lost.
    pub(super) fn push_gap(&self) {
        self.state().push_gap();
        self.filled.notify_one();
    }

    /// Returns the next message or gap. Cancel-safe.
    pub(super) async fn next(&self) -> Received {
        loop {
            let (next, is_filled) = {
                let mut state = self.state();
                (state.pop(), !state.queue.is_empty())
            };
            if is_filled {
                // Several notifications are one permit; another caller may wait.
                self.filled.notify_one();
            }
            if let Some(next) = next {
                return next;
            }
            self.filled.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, frame: Frame) {
        let Frame { sender, number, message } = frame;
        if self.last.len() >= MAX_SENDERS && !self.last.contains_key(&sender) {
            self.last.clear();
            self.push_gap();
        }
        // A node that connects later than the sender gets a gap, which also covers a lost first message.
        let last = self.last.entry(sender).or_default();
        let is_gap = number > last.saturating_add(1);
        *last = number.max(*last);
        if is_gap {
            self.push_gap();
        }
        if self.messages >= MAX_MESSAGES || self.bytes + message.len() > MAX_BYTES {
            self.push_gap();
            return;
        }
        self.messages += 1;
        self.bytes += message.len();
        self.queue.push_back(Received::Message(message));
    }

    fn push_gap(&mut self) {
        if self.queue.back() != Some(&Received::Gap) {
            self.queue.push_back(Received::Gap);
        }
    }

    fn pop(&mut self) -> Option<Received> {
        let next = self.queue.pop_front()?;
        if let Received::Message(message) = &next {
            self.messages -= 1;
            self.bytes -= message.len();
        }
        Some(next)
    }
}

/// The maximum number of queued messages.
const MAX_MESSAGES: usize = 8192;
/// The maximum size of all queued messages.
const MAX_BYTES: usize = 64 << 20;
/// The maximum number of senders whose last message is known, of which each start of a node adds one.
const MAX_SENDERS: usize = 4096;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn frame(sender: u64, number: u64) -> Bytes {
        Frame { sender, number, message: Bytes::from(number.to_string()) }.encode()
    }

    fn next(inbox: &Inbox) -> Option<Received> {
        inbox.next().now_or_never()
    }

    fn message(number: u64) -> Option<Received> {
        Some(Received::Message(Bytes::from(number.to_string())))
    }

    #[test]
    fn own_frames_are_dropped() {
        let inbox = Inbox::new(1);
        assert_eq!(inbox.handle_frame(&frame(1, 7)), Handled::Own);
        assert_eq!(inbox.handle_frame(&frame(1, 0)), Handled::OwnMarker);
        assert_eq!(inbox.handle_frame(&frame(2, 0)), Handled::Ignored);
        assert_eq!(next(&inbox), None);
    }

    #[test]
    fn skipped_number_is_a_gap() {
        let inbox = Inbox::new(1);
        for number in [1, 2, 4, 4] {
            inbox.handle_frame(&frame(2, number));
        }
        inbox.handle_frame(&frame(3, 7));
        let gap = Some(Received::Gap);
        let all: Vec<_> = std::iter::from_fn(|| next(&inbox)).map(Some).collect();
        assert_eq!(all, [message(1), message(2), gap.clone(), message(4), message(4), gap, message(7)]);
    }

    #[test]
    fn full_queue_drops_messages_and_reports_a_gap() {
        let inbox = Inbox::new(1);
        for number in 1..=MAX_MESSAGES as u64 + 2 {
            inbox.handle_frame(&frame(2, number));
        }
        for number in 1..=MAX_MESSAGES as u64 {
            assert_eq!(next(&inbox), message(number));
        }
        assert_eq!(next(&inbox), Some(Received::Gap));
        assert_eq!(next(&inbox), None);
        inbox.handle_frame(&frame(2, MAX_MESSAGES as u64 + 3));
        assert_eq!(next(&inbox), message(MAX_MESSAGES as u64 + 3));
    }

    #[test]
    fn full_bytes_drop_messages_and_report_a_gap() {
        let inbox = Inbox::new(1);
        let large = |number| Frame { sender: 2, number, message: Bytes::from(vec![0; MAX_BYTES / 2]) }.encode();
        for number in 1..=3 {
            inbox.handle_frame(&large(number));
        }
        assert!(matches!(next(&inbox), Some(Received::Message(_))));
        assert!(matches!(next(&inbox), Some(Received::Message(_))));
        assert_eq!(next(&inbox), Some(Received::Gap));
        assert_eq!(next(&inbox), None);
    }
}
