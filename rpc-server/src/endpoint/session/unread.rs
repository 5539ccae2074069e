//! [`UnreadBytes`]: the answers that an endpoint has not sent to its callers.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// The number of bytes of the answers that an endpoint has received and not sent, over all sessions of a connection.
///
/// At the limit, the sessions read nothing more. The answers then wait as those of a peer that does not read.
#[derive(Debug)]
pub(crate) struct UnreadBytes {
    limit: usize,
    bytes: AtomicUsize,
    readers: Mutex<Vec<Waker>>,
}

/// A part of the unread answers of a connection, until it is dropped.
pub struct Unread {
    bytes: usize,
    all: Arc<UnreadBytes>,
}

/// The calling end of the pipe of a session.
pub(super) struct Gated {
    io: DuplexStream,
    unread: Arc<UnreadBytes>,
}

impl UnreadBytes {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, bytes: AtomicUsize::new(0), readers: Mutex::default() })
    }

    pub(super) fn add(self: &Arc<Self>, bytes: usize) -> Unread {
        self.bytes.fetch_add(bytes, SeqCst);
        Unread { bytes, all: Arc::clone(self) }
    }

    fn is_full(&self) -> bool {
        self.bytes.load(SeqCst) >= self.limit
    }

    fn readers(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let all = &self.all;
        let before = all.bytes.fetch_sub(self.bytes, SeqCst);
        if before >= all.limit && before - self.bytes < all.limit {
            let readers = std::mem::take(&mut *all.readers());
            readers.into_iter().for_each(Waker::wake);
        }
    }
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unread").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Gated {
    pub(super) fn new(io: DuplexStream, unread: Arc<UnreadBytes>) -> Self {
        Self { io, unread }
    }
}

impl AsyncRead for Gated {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_full() {
            let mut readers = self.unread.readers();
            if readers.iter().all(|reader| !reader.will_wake(cx.waker())) {
                readers.push(cx.waker().clone());
            }
            drop(readers);
            // Checked after the registration: an answer that is dropped in between wakes no waiter.
            if self.unread.is_full() {
                return Poll::Pending;
            }
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Gated {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn full_session_reads_after_an_answer_is_dropped() {
        let (mut callee, caller) = tokio::io::duplex(16);
        let all = UnreadBytes::new(10);
        let mut gated = Gated::new(caller, Arc::clone(&all));
        tokio::io::AsyncWriteExt::write_all(&mut callee, b"ab").await.unwrap();
        let small = all.add(9);
        assert_eq!(gated.read_u8().await.unwrap(), b'a', "one below the limit");
        let last = all.add(1);
        let (read, ()) = tokio::join!(gated.read_u8(), async {
            tokio::task::yield_now().await;
            assert!(!all.readers().is_empty(), "the reader waits at the limit");
            drop(last);
        });
        assert_eq!(read.unwrap(), b'b');
        drop(small);
        assert_eq!(all.bytes.load(SeqCst), 0);
    }
}
