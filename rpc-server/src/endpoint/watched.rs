//! [`Watched`]: the stream of a connection, whose reads and writes an endpoint watches.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{blocked_write::BlockedWrite, connection::EndpointIo};

/// Watches the stream of a connection.
pub trait Watch: Send + Unpin + 'static {
    /// Handles the bytes that a read returned; none if it is pending, has failed, or found the end.
    ///
    /// # Errors
    ///
    /// An error fails the read.
    fn handle_read(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()>;

    /// Handles the number of bytes that a write has written.
    fn handle_write(&mut self, count: usize) {
        let _ = count;
    }
}

/// The stream of a connection, whose reads and writes `W` watches. It fails if the caller does not read.
pub struct Watched<W> {
    io: Box<dyn EndpointIo>,
    watch: W,
    blocked: BlockedWrite,
}

impl<W: Watch> Watched<W> {
    /// Watches `io`. A blocked write must make progress within `write_stall`.
    pub fn new(io: Box<dyn EndpointIo>, write_stall: Duration, watch: W) -> Self {
        Self { io, watch, blocked: BlockedWrite::new(write_stall) }
    }

    fn check(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &written {
            self.watch.handle_write(*count);
        }
        if self.blocked.is_overdue(cx, &written) {
            let message = "the caller does not read (write_stall of its endpoint)";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)));
        }
        written
    }
}

impl<W: Watch> AsyncRead for Watched<W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.watch.handle_read(cx, &buffer.filled()[before..])?;
        read
    }
}

impl<W: Watch> AsyncWrite for Watched<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.check(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.check(cx, written)
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
