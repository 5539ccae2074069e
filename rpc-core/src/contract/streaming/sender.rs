//! [`StreamSender`]: the sending end of a [`Streaming`](super::Streaming) in the same process.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{self, Poll},
};

use tokio::sync::mpsc;

/// The sending end of a stream, created by [`Streaming::channel`](super::Streaming::channel).
///
/// # Drop
///
/// When the last sender is dropped, the stream ends regularly, unless the drop is part of a panic: the stream then ends
/// with `Internal`.
pub struct StreamSender<T, E> {
    items: mpsc::Sender<Result<T, E>>,
    panicked: Arc<AtomicBool>,
}

/// The receiver of the items was dropped: the call has ended, or nobody reads its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream is closed: its call has ended, or its reader was dropped")]
pub struct StreamClosed;

/// Why [`StreamSender::try_send`] did not send an item, which it returns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    /// The stream has no capacity: its peer reads more slowly than this end sends.
    #[error("the stream has no capacity")]
    Full(T),
    /// The receiver of the items was dropped.
    #[error("the stream is closed: its call has ended, or its reader was dropped")]
    Closed(T),
}

/// The receiving end of a channel.
pub(super) struct Channel<T, E> {
    items: mpsc::Receiver<Result<T, E>>,
    panicked: Arc<AtomicBool>,
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
    let panicked = Arc::new(AtomicBool::new(false));
    (StreamSender { items: sender, panicked: Arc::clone(&panicked) }, Channel { items: receiver, panicked })
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
        self.items.send(Ok(item)).await.map_err(|_| StreamClosed)
    }

    /// Sends an item if the stream has capacity.
    ///
    /// # Errors
    ///
    /// [`TrySendError`], with the item.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        self.items.try_send(Ok(item)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(Ok(item)) => TrySendError::Full(item),
            mpsc::error::TrySendError::Closed(Ok(item)) => TrySendError::Closed(item),
            _ => unreachable!("an error contains the item that was sent"),
        })
    }

    /// Ends the stream with an error, behind the items that were sent. Waits until the stream has capacity.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the stream ends regularly unless other senders exist.
    pub async fn fail(self, error: E) -> Result<(), StreamClosed> {
        self.items.send(Err(error)).await.map_err(|_| StreamClosed)
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
        Self { items: self.items.clone(), panicked: Arc::clone(&self.panicked) }
    }
}

impl<T, E> Drop for StreamSender<T, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.panicked.store(true, Ordering::Release);
        }
    }
}

impl<T, E> fmt::Debug for StreamSender<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSender").field("capacity", &self.items.capacity()).finish_non_exhaustive()
    }
}

impl<T, E> Channel<T, E> {
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Element<T, E>> {
        self.items.poll_recv(cx).map(|item| match item {
            Some(item) => Element::Item(item),
            // The last sender has stored the flag before the channel closed.
            None if self.panicked.load(Ordering::Acquire) => Element::Panicked,
            None => Element::End,
        })
    }
}
