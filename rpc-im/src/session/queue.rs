//! [`Queue`]: a queue for one reader, limited by items and by bytes.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// A queue for one reader, limited by items and by bytes.
///
/// Writers never wait: a full queue rejects the item.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    pushed: Notify,
    popped: Notify,
    max_items: usize,
    max_bytes: usize,
}

struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    closed: bool,
}

/// The error of [`Queue::push`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushError {
    /// The queue has reached one of its limits.
    Full,
    /// The queue was closed.
    Closed,
}

impl<T> Queue<T> {
    pub(crate) fn new(max_items: usize, max_bytes: usize) -> Self {
        let state = State { items: VecDeque::new(), bytes: 0, closed: false };
        Self { state: Mutex::new(state), pushed: Notify::new(), popped: Notify::new(), max_items, max_bytes }
    }

    /// Adds an item of this many bytes. An empty queue accepts an item above the limit of bytes.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] at one of the limits, [`PushError::Closed`] after [`close`](Self::close).
    pub(crate) fn push(&self, item: T, bytes: usize) -> Result<(), PushError> {
        let mut state = self.lock();
        if state.closed {
            return Err(PushError::Closed);
        }
        let full = state.items.len() >= self.max_items || state.bytes + bytes > self.max_bytes;
        if full && !state.items.is_empty() {
            return Err(PushError::Full);
        }
        state.bytes += bytes;
        state.items.push_back((item, bytes));
        drop(state);
        self.pushed.notify_one();
        Ok(())
    }

    /// Removes the items for which `keep` returns false.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&T) -> bool) {
        let mut state = self.lock();
        state.items.retain(|(item, _)| keep(item));
        state.bytes = state.items.iter().map(|(_, bytes)| bytes).sum();
    }

    /// Returns the next item; `None` once the queue is closed and empty. At most one reader may wait.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no item.
    pub(crate) async fn pop(&self) -> Option<T> {
        Some(self.pop_with_size().await?.0)
    }

    /// Returns waiting items within these limits; `None` once the queue is closed and empty.
    ///
    /// The batch has at least one item, also if that is above the limit of bytes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no item.
    pub(crate) async fn pop_batch(&self, max_items: usize, max_bytes: usize) -> Option<Vec<T>> {
        let first = self.pop_with_size().await?;
        let (mut batch, mut total) = (vec![first.0], first.1);
        let mut state = self.lock();
        while batch.len() < max_items {
            match state.items.front() {
                Some((_, bytes)) if total + bytes <= max_bytes => total += bytes,
                _ => break,
            }
            let (item, bytes) = state.items.pop_front().expect("the queue has a front item");
            state.bytes -= bytes;
            batch.push(item);
        }
        Some(batch)
    }

    /// Waits until the queue has fewer than this many items and bytes, or is closed. At most one caller may wait.
    pub(crate) async fn shorter_than(&self, items: usize, bytes: usize) {
        loop {
            {
                let state = self.lock();
                if state.items.len() < items && state.bytes < bytes || state.closed {
                    return;
                }
            }
            // A pop since the check has left a permit, so it is not missed.
            self.popped.notified().await;
        }
    }

    /// Rejects further items; the reader still receives the waiting ones.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.pushed.notify_one();
        self.popped.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().items.len()
    }

    async fn pop_with_size(&self) -> Option<(T, usize)> {
        loop {
            {
                let mut state = self.lock();
                if let Some((item, bytes)) = state.items.pop_front() {
                    state.bytes -= bytes;
                    if state.items.is_empty() {
                        // Most readers keep up, so a queue that was long once does not keep its memory.
                        state.items = VecDeque::new();
                    }
                    self.popped.notify_one();
                    return Some((item, bytes));
                }
                if state.closed {
                    return None;
                }
            }
            // A push since the check has left a permit, so it is not missed.
            self.pushed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn push_rejects_items_above_either_bound() {
        let queue = Queue::new(2, 10);
        assert_eq!(queue.push('a', 5), Ok(()));
        assert_eq!(queue.push('b', 6), Err(PushError::Full));
        assert_eq!(queue.push('b', 5), Ok(()));
        assert_eq!(queue.push('c', 0), Err(PushError::Full));
        queue.retain(|item| *item == 'b');
        assert_eq!(queue.push('c', 5), Ok(()));
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn empty_queue_accepts_an_oversized_item() {
        let queue = Queue::new(2, 10);
        assert_eq!(queue.push('a', 11), Ok(()));
        assert_eq!(queue.push('b', 1), Err(PushError::Full));
    }

    #[tokio::test]
    async fn pop_batch_respects_both_bounds() {
        let queue = Queue::new(9, 99);
        for item in 0..5 {
            queue.push(item, 10).unwrap();
        }
        assert_eq!(queue.pop_batch(2, 99).await.unwrap(), [0, 1]);
        assert_eq!(queue.pop_batch(9, 20).await.unwrap(), [2, 3]);
        assert_eq!(queue.pop_batch(9, 5).await.unwrap(), [4], "a batch has at least one item");
        assert_eq!(queue.pop_batch(9, 99).now_or_never(), None);
        queue.push(5, 99).expect("popped items free capacity");
    }

    #[tokio::test]
    async fn closed_queue_returns_its_remaining_items() {
        let queue = Queue::new(2, 10);
        queue.push('a', 1).unwrap();
        queue.close();
        assert_eq!(queue.push('b', 1), Err(PushError::Closed));
        assert_eq!(queue.pop().await, Some('a'));
        assert_eq!(queue.pop().await, None);
    }
}
