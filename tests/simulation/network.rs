//! [`Network`] and [`Listener`]: turmoil's connections for a client and for a server.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{self, Poll, ready},
    time::Duration,
};

use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use rpc_core::{
    BoxFuture, Peer,
    transport::{Accept, Connect, Io},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use turmoil::net::{TcpListener, TcpStream};

use super::{
    history::{History, LinkGuard, now},
    meddler::{Meddlers, Tampering},
};

/// A client's way into the network.
pub(crate) struct Network {
    client: usize,
    history: Arc<History>,
    chance: Mutex<SmallRng>,
    clumsiness: Clumsiness,
}

/// How badly a client's sockets take what is written.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clumsiness {
    /// The share of connections that take a few bytes at a time.
    pub(crate) piecemeal: f64,
    /// The share of writes that are put off.
    pub(crate) stalls: f64,
    /// For how long at most.
    pub(crate) stall: Duration,
    /// When none is put off any more.
    pub(crate) until: Duration,
}

impl Network {
    /// The network as `client` sees it.
    pub(crate) fn new(client: usize, history: Arc<History>, seed: u64, clumsiness: Clumsiness) -> Self {
        Self { client, history, chance: Mutex::new(SmallRng::seed_from_u64(seed)), clumsiness }
    }
}

impl Connect for Network {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(async move {
            let link = self.history.connects(self.client, address);
            let mut chance = {
                let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
                SmallRng::seed_from_u64(chance.next_u64())
            };
            let piece = chance.random_bool(self.clumsiness.piecemeal).then(|| chance.random_range(1..100));
            let stream = TcpStream::connect(address).await?;
            Ok(Box::new(Socket { stream, link, chance, piece, clumsiness: self.clumsiness, stalled: None })
                as Box<dyn Io>)
        })
    }
}

/// A client's connection.
struct Socket {
    stream: TcpStream,
    link: LinkGuard,
    chance: SmallRng,
    /// The most bytes taken at a time.
    piece: Option<usize>,
    clumsiness: Clumsiness,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.link.heard();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, chance, piece, clumsiness, stalled, .. } = &mut *self;
        if stalled.is_none() && now() < clumsiness.until && chance.random_bool(clumsiness.stalls) {
            *stalled = Some(Box::pin(sleep(clumsiness.stall.mul_f64(chance.random()))));
        }
        if let Some(stall) = stalled {
            ready!(stall.as_mut().poll(cx));
            *stalled = None;
        }
        let length = piece.map_or(bytes.len(), |piece| piece.min(bytes.len()));
        Pin::new(stream).poll_write(cx, &bytes[..length])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A server's way into the network. Some connections go through a meddler.
pub(crate) struct Listener {
    listener: TcpListener,
    meddlers: Arc<Meddlers>,
    tampering: Tampering,
    history: Arc<History>,
}

impl Listener {
    /// Listens on `port`.
    pub(crate) async fn bind(
        port: u16,
        meddlers: Arc<Meddlers>,
        tampering: Tampering,
        history: Arc<History>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(("0.0.0.0", port)).await?;
        Ok(Self { listener, meddlers, tampering, history })
    }
}

impl Accept for Listener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Io>, Peer)>> {
        Box::pin(async move {
            let (stream, address) = self.listener.accept().await?;
            let peer = Peer::new(address, stream.local_addr()?);
            let io = match self.meddlers.stand_between(stream, self.tampering) {
                Ok(meddled) => Held::count(meddled, &self.history),
                Err(stream) => Held::count(stream, &self.history),
            };
            Ok((io, peer))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A server's connection, which is counted.
struct Held<S> {
    stream: S,
    history: Arc<History>,
}

impl<S: Io> Held<S> {
    fn count(stream: S, history: &Arc<History>) -> Box<dyn Io> {
        history.holds(1);
        Box::new(Self { stream, history: Arc::clone(history) })
    }
}

impl<S> Drop for Held<S> {
    fn drop(&mut self) {
        self.history.holds(-1);
    }
}

impl<S: Io> AsyncRead for Held<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: Io> AsyncWrite for Held<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
