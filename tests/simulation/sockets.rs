//! [`Sockets`]: the open sockets of one machine, which close in a defined order before its runtime shuts down.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::TcpStream;

/// The open sockets of one machine, in the order in which they were opened.
///
/// A runtime that shuts down drops its tasks in an order that depends on the number of earlier tasks in the process, and
/// the order in which sockets close is an event of the simulation.
#[derive(Default)]
pub(crate) struct Sockets(Mutex<Vec<Weak<Slot>>>);

type Slot = Mutex<Option<TcpStream>>;

/// A socket of a machine. After [`Sockets::close_all`] its operations do not complete.
pub(crate) struct Socket(Arc<Slot>);

impl Sockets {
    /// Adds a socket.
    pub(crate) fn add(&self, stream: TcpStream) -> Socket {
        let slot = Arc::new(Mutex::new(Some(stream)));
        let mut sockets = lock(&self.0);
        sockets.retain(|socket| socket.strong_count() > 0);
        sockets.push(Arc::downgrade(&slot));
        Socket(slot)
    }

    /// Closes all sockets. Their tasks do not notice.
    pub(crate) fn close_all(&self) {
        for socket in lock(&self.0).drain(..).filter_map(|socket| socket.upgrade()) {
            drop(lock(&socket).take());
        }
    }
}

impl Socket {
    fn poll<T>(&self, poll: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &mut *lock(&self.0) {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Pending,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(cx))
    }
}
