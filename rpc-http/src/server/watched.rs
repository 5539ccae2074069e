//! [`Watched`]: the stream of a connection, whose reads and writes are watched.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rpc_server::EndpointIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::activity::Activity;

/// The stream of a connection: it reports reads to an [`Activity`], and fails if the peer does not read.
pub(super) struct Watched {
    io: Box<dyn EndpointIo>,
    activity: Activity,
    write_stall: Duration,
    /// The bytes that the peer has accepted since a write was blocked, and the time of that.
    stalled: Option<(usize, Pin<Box<Sleep>>)>,
}

impl Watched {
    pub(super) fn new(io: Box<dyn EndpointIo>, activity: Activity, write_stall: Duration) -> Self {
        Self { io, activity, write_stall, stalled: None }
    }

    fn check(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(count)) => {
                if let Some((progress, _)) = &mut self.stalled {
                    *progress += count;
                    if *progress >= MIN_PROGRESS {
                        self.stalled = None;
                    }
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let until = || rpc_core::deadline_after(Instant::now(), self.write_stall);
                let (_, timer) = self.stalled.get_or_insert_with(|| (0, Box::pin(sleep_until(until()))));
                if timer.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")));
                }
            }
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.read();
        }
        read
    }
}

impl AsyncWrite for Watched {
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

/// The number of bytes that the peer must accept within the time of a write stall.
const MIN_PROGRESS: usize = 16 << 10;
