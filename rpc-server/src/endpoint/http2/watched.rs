//! [`Watched`]: the stream of a connection, whose reads and writes are watched.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{frames::Frames, limits::Http2Limits};
use crate::endpoint::{blocked_write::BlockedWrite, connection::EndpointIo};

/// The stream of a connection. It fails if headers arrive too slowly, for too many frames without use, and if the caller does
/// not read.
pub(super) struct Watched {
    io: Box<dyn EndpointIo>,
    limits: Http2Limits,
    frames: Frames,
    /// The time by which a list of headers must end.
    head: Option<Pin<Box<Sleep>>>,
    blocked: BlockedWrite,
}

impl Watched {
    pub(super) fn new(io: Box<dyn EndpointIo>, limits: Http2Limits) -> Self {
        let frames = Frames::new(limits.max_idle_frames);
        Self { io, blocked: BlockedWrite::new(limits.write_stall), limits, frames, head: None }
    }

    fn check_written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &written {
            self.frames.handle_write(*count);
        }
        if self.blocked.is_overdue(cx, &written) {
            let message = "the caller does not read (write_stall of its endpoint)";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)));
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        let this = &mut *self;
        if this.frames.handle_read(&buffer.filled()[before..]).is_err() {
            let message = "the caller sends too many frames without requests (max_idle_frames of its endpoint)";
            return Poll::Ready(Err(io::Error::other(message)));
        }
        if !this.frames.is_in_head() {
            this.head = None;
            return read;
        }
        let until = || rpc_core::deadline_after(Instant::now(), this.limits.head_time);
        let timer = this.head.get_or_insert_with(|| Box::pin(sleep_until(until())));
        if timer.as_mut().poll(cx).is_ready() {
            let message = "the headers of a request did not arrive in time (head_time of its endpoint)";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)));
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.check_written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.check_written(cx, written)
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
