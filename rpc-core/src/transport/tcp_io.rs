//! [`TcpIo`]: a TCP stream that reads correctly after a pause of its runtime.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A TCP stream that reads correctly after a pause of its runtime.
///
/// A runtime may pause, because its process was stopped or it runs only while a program waits for a call. When it
/// continues, it may poll a task before it has read the events of the sockets. A connection would then write a request
/// although the peer has closed it, or miss a pong that has arrived. After a pause this stream therefore reads from the
/// socket itself.
#[derive(Debug)]
pub(crate) struct TcpIo {
    stream: TcpStream,
    read_at: Instant,
}

impl TcpIo {
    /// Sets `TCP_NODELAY`.
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, read_at: Instant::now() })
    }

    /// Reads what the socket has received, whether or not the runtime has read its event.
    #[cfg(unix)]
    fn read_now(&self, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        use rustix::{
            io::Errno,
            net::{RecvFlags, recv},
        };
        let mut bytes = [0; READ_AFTER_PAUSE];
        let length = buffer.remaining().min(bytes.len());
        match recv(&self.stream, &mut bytes[..length], RecvFlags::DONTWAIT) {
            Ok((_, count)) => {
                buffer.put_slice(&bytes[..count]);
                Poll::Ready(Ok(()))
            }
            // The stream has registered the waker.
            Err(Errno::AGAIN | Errno::INTR) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    #[cfg(not(unix))]
    fn read_now(&self, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncRead for TcpIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let now = Instant::now();
        let paused = now.saturating_duration_since(std::mem::replace(&mut self.read_at, now)) >= PAUSE;
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Pending if paused => self.read_now(buffer),
            polled => polled,
        }
    }
}

impl AsyncWrite for TcpIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The time between two reads, or a read and a write, after which the process counts as paused.
pub(super) const PAUSE: Duration = Duration::from_millis(10);
/// The largest number of bytes that such a read returns; the next one is an ordinary one.
#[cfg(unix)]
const READ_AFTER_PAUSE: usize = 1024;

#[cfg(all(test, unix))]
mod tests {
    use std::{io::Write as _, net::TcpListener, task::Waker};

    use super::*;

    /// The runtime reads no event between the peer's write and the poll.
    #[tokio::test]
    async fn paused_stream_reads_what_has_arrived() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let mut io = TcpIo::new(stream).unwrap();
        let read = |io: &mut TcpIo| {
            let mut bytes = [0; 8];
            let mut buffer = ReadBuf::new(&mut bytes);
            let polled = Pin::new(io).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
            polled.map(|result| result.map(|()| buffer.filled().to_vec()).unwrap())
        };
        assert_eq!(read(&mut io), Poll::Pending);
        peer.write_all(b"pong").unwrap();
        assert_eq!(read(&mut io), Poll::Pending, "the runtime has read no event");
        io.read_at -= PAUSE;
        assert_eq!(read(&mut io), Poll::Ready(b"pong".to_vec()));
        drop(peer);
        io.read_at -= PAUSE;
        assert_eq!(read(&mut io), Poll::Ready(Vec::new()), "the peer has closed the connection");
    }
}
