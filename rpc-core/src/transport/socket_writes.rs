//! [`SocketWrites`]: the bytes that a socket has accepted below a stream that holds bytes back.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Io;

/// The number of bytes that a socket has accepted below a stream that holds bytes back, such as TLS.
///
/// The stream accepts bytes before its socket does, and flushes them later.
#[derive(Debug, Clone, Default)]
pub struct SocketWrites(Arc<AtomicU64>);

impl SocketWrites {
    /// Counts the bytes that `io` accepts from now on.
    pub fn of(io: Box<dyn Io>) -> (CountedIo, Self) {
        let writes = Self::default();
        (CountedIo { io, writes: writes.clone() }, writes)
    }

    /// Returns the number of accepted bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A socket whose accepted bytes are counted.
pub struct CountedIo {
    io: Box<dyn Io>,
    writes: SocketWrites,
}

impl CountedIo {
    /// Returns the socket.
    pub fn into_inner(self) -> Box<dyn Io> {
        self.io
    }

    fn count(&self, written: io::Result<usize>) -> io::Result<usize> {
        written.inspect(|count| {
            self.writes.0.fetch_add(*count as u64, Relaxed);
        })
    }
}

impl AsyncRead for CountedIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for CountedIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes));
        Poll::Ready(self.count(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices));
        Poll::Ready(self.count(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
