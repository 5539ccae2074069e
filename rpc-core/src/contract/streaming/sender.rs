//! [`StreamSender`]: the sending end of a [`Streaming`](super::Streaming) in the same process.

use std::{
    error::Error as StdError,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{self, Poll},
};

use tokio::sync::mpsc;

/// The sending end of a stream, created by [`Streaming::channel`](super::Streaming::channel).
///
/// # Drop
///
/// When the last sender is dropped, the stream ends regularly, unless a sender [failed](Self::fail), or was dropped by a
/// panic: the stream then ends with `Internal`. A task that may be aborted or may return early must therefore `fail` first,
/// or its stream looks complete.
pub struct StreamSender<T, E> {
    items: mpsc::Sender<T>,
    end: Arc<SharedEnd<E>>,
}

/// How a channel ends when its last sender is dropped.
struct SharedEnd<E> {
    failure: Mutex<Option<E>>,
    panicked: AtomicBool,
}

/// The receiver of the items was dropped: the call has ended, or nobody reads its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamClosed;

impl fmt::Display for StreamClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stream is closed: its call has ended, or its reader was dropped")
    }
}

impl StdError for StreamClosed {}

/// Why [`StreamSender::try_send`] did not send an item, which it returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// The stream has no capacity: its peer reads more slowly than this end sends.
    Full(T),
    /// The receiver of the items was dropped.
    Closed(T),
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the stream has no capacity"),
            Self::Closed(_) => StreamClosed.fmt(f),
        }
    }
}

impl<T: fmt::Debug> StdError for TrySendError<T> {}

/// The receiving end of a channel.
pub(super) struct Channel<T, E> {
    items: mpsc::Receiver<T>,
    end: Arc<SharedEnd<E>>,
}

/// The next element of a [`Channel`].
pub(super) enum Element<T, E> {
    Item(Result<T, E>),
    End,
    /// A sender was dropped by a panic.
    Panicked,
}

pub(super) fn channel<T, E>(capacity: usize) -> (StreamSender<T, E>, Channel<T, E>) {
    let (sender, receiver) = mpsc::channel(capacity);
    let end = Arc::new(SharedEnd { failure: Mutex::new(None), panicked: AtomicBool::new(false) });
    (StreamSender { items: sender, end: Arc::clone(&end) }, Channel { items: receiver, end })
}

impl<T, E> StreamSender<T, E> {
    /// Sends an item. Waits until the stream has capacity.
    ///
    /// The item is sent when the peer has granted credit for it; until then it is one of the items in the channel.
    ///
    /// # Errors
    ///
    /// [`StreamClosed`] if the call has ended or the reader was dropped.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the item is not sent.
    pub async fn send(&self, item: T) -> Result<(), StreamClosed> {
        self.items.send(item).await.map_err(|_| StreamClosed)
    }

    /// Sends an item if the stream has capacity.
    ///
    /// # Errors
    ///
    /// [`TrySendError`], with the item.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        self.items.try_send(item).map_err(|error| match error {
            mpsc::error::TrySendError::Full(item) => TrySendError::Full(item),
            mpsc::error::TrySendError::Closed(item) => TrySendError::Closed(item),
        })
    }

    /// Ends the stream with an error, behind the items that were sent.
    ///
    /// If there are other senders, the stream ends when the last of them is dropped. The first error counts.
    pub fn fail(self, error: E) {
        self.end.failure().get_or_insert(error);
    }

    /// Waits until the call has ended or the reader was dropped.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn closed(&self) {
        self.items.closed().await;
    }
}

impl<T, E> Clone for StreamSender<T, E> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), end: Arc::clone(&self.end) }
    }
}

impl<T, E> Drop for StreamSender<T, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.end.panicked.store(true, Ordering::Release);
        }
    }
}

impl<T, E> fmt::Debug for StreamSender<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSender").field("capacity", &self.items.capacity()).finish_non_exhaustive()
    }
}

impl<E> SharedEnd<E> {
    fn failure(&self) -> MutexGuard<'_, Option<E>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, E> Channel<T, E> {
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Element<T, E>> {
        self.items.poll_recv(cx).map(|item| match item {
            Some(item) => Element::Item(Ok(item)),
            // The senders have stored both before the channel closed.
            None if self.end.panicked.load(Ordering::Acquire) => Element::Panicked,
            None => self.end.failure().take().map_or(Element::End, |error| Element::Item(Err(error))),
        })
    }
}
