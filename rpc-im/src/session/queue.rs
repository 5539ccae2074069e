//! [`Queue`]: what waits for one reader, bounded by number and by bytes.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// What waits for one reader. Writers never wait: what does not fit is refused.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Notify,
    taken: Notify,
    max_items: usize,
    max_bytes: usize,
}

struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    closed: bool,
}

/// Why a queue did not take something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is at one of its bounds.
    Full,
    /// It was closed.
    Closed,
}

impl<T> Queue<T> {
    pub(crate) fn new(max_items: usize, max_bytes: usize) -> Self {
        let state = State { items: VecDeque::new(), bytes: 0, closed: false };
        Self { state: Mutex::new(state), ready: Notify::new(), taken: Notify::new(), max_items, max_bytes }
    }

    /// Adds an item of so many bytes. One that is longer than all there is room for goes into an empty queue.
    pub(crate) fn push(&self, item: T, bytes: usize) -> Result<(), Refusal> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refusal::Closed);
        }
        let full = state.items.len() >= self.max_items || state.bytes + bytes > self.max_bytes;
        if full && !state.items.is_empty() {
            return Err(Refusal::Full);
        }
        state.bytes += bytes;
        state.items.push_back((item, bytes));
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Throws away what waits and is not to be kept.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&T) -> bool) {
        let mut state = self.lock();
        state.items.retain(|(item, _)| keep(item));
        state.bytes = state.items.iter().map(|(_, bytes)| bytes).sum();
    }

    /// The next item; `None` once the queue is closed and empty. For one reader at a time.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing is lost.
    pub(crate) async fn pop(&self) -> Option<T> {
        Some(self.pop_weighed().await?.0)
    }

    /// All that waits, at most so many items and bytes, at least one; `None` once the queue is closed and empty.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing is lost.
    pub(crate) async fn pop_batch(&self, max_items: usize, max_bytes: usize) -> Option<Vec<T>> {
        let first = self.pop_weighed().await?;
        let (mut batch, mut total) = (vec![first.0], first.1);
        let mut state = self.lock();
        while batch.len() < max_items {
            match state.items.front() {
                Some((_, bytes)) if total + bytes <= max_bytes => total += bytes,
                _ => break,
            }
            let (item, bytes) = state.items.pop_front().expect("there is a first one");
            state.bytes -= bytes;
            batch.push(item);
        }
        Some(batch)
    }

    /// Waits until fewer items than that wait, or the queue is closed. For one who asks at a time.
    pub(crate) async fn shorter_than(&self, items: usize) {
        loop {
            {
                let state = self.lock();
                if state.items.len() < items || state.closed {
                    return;
                }
            }
            // Something taken since the look has left a permit.
            self.taken.notified().await;
        }
    }

    /// Takes no more; what waits is still there to be popped.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
        self.taken.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().items.len()
    }

    async fn pop_weighed(&self) -> Option<(T, usize)> {
        loop {
            {
                let mut state = self.lock();
                if let Some((item, bytes)) = state.items.pop_front() {
                    state.bytes -= bytes;
                    if state.items.is_empty() {
                        // Most readers keep up; one who did not for a moment shall not hold the room for good.
                        state.items = VecDeque::new();
                    }
                    self.taken.notify_one();
                    return Some((item, bytes));
                }
                if state.closed {
                    return None;
                }
            }
            // A push since the look has left a permit, so it is not missed.
            self.ready.notified().await;
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
    fn both_bounds_hold_at_and_one_over() {
        let queue = Queue::new(2, 10);
        assert_eq!(queue.push('a', 5), Ok(()));
        assert_eq!(queue.push('b', 6), Err(Refusal::Full));
        assert_eq!(queue.push('b', 5), Ok(()));
        assert_eq!(queue.push('c', 0), Err(Refusal::Full));
        queue.retain(|item| *item == 'b');
        assert_eq!(queue.push('c', 5), Ok(()));
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn what_is_longer_than_all_room_goes_alone() {
        let queue = Queue::new(2, 10);
        assert_eq!(queue.push('a', 11), Ok(()));
        assert_eq!(queue.push('b', 1), Err(Refusal::Full));
    }

    #[tokio::test]
    async fn a_batch_is_what_is_ready_within_its_bounds() {
        let queue = Queue::new(9, 99);
        for item in 0..5 {
            queue.push(item, 10).unwrap();
        }
        assert_eq!(queue.pop_batch(2, 99).await.unwrap(), [0, 1]);
        assert_eq!(queue.pop_batch(9, 20).await.unwrap(), [2, 3]);
        assert_eq!(queue.pop_batch(9, 5).await.unwrap(), [4], "one goes, however long");
        assert_eq!(queue.pop_batch(9, 99).now_or_never(), None);
        queue.push(5, 99).expect("room is given back");
    }

    #[tokio::test]
    async fn a_closed_queue_gives_what_it_has() {
        let queue = Queue::new(2, 10);
        queue.push('a', 1).unwrap();
        queue.close();
        assert_eq!(queue.push('b', 1), Err(Refusal::Closed));
        assert_eq!(queue.pop().await, Some('a'));
        assert_eq!(queue.pop().await, None);
    }
}
