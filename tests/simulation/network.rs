//! [`Network`] and [`Listener`]: turmoil's network for clients and for servers.

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
    history::{ConnectionGuard, History, now},
    monitor::{Monitor, Monitors},
    sockets::Sockets,
    tampering::{Tampering, TamperingProxies},
};

/// Opens the connections of a client.
pub(crate) struct Network {
    client: usize,
    history: Arc<History>,
    rng: Mutex<SmallRng>,
    faults: SocketFaults,
    monitors: Monitors,
}

/// Faults of a client's sockets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SocketFaults {
    /// Share of connections that accept only a few bytes per write.
    pub(crate) piecemeal: f64,
    /// Share of writes that stall.
    pub(crate) stalls: f64,
    /// Maximum duration of a stall.
    pub(crate) stall: Duration,
    /// Share of connection attempts in which the connector panics.
    pub(crate) connect_panics: f64,
    /// Share of connections that read a few bytes, then pause.
    pub(crate) slow_readers: f64,
    /// Pause between two reads of a slow reader.
    pub(crate) read_pause: Duration,
    /// Time after which no write stalls or is divided, and no reader is slow. A connection that sends byte by byte answers no
    /// ping in time.
    pub(crate) until: Duration,
}

impl Network {
    /// Returns the network of `client`.
    pub(crate) fn new(client: usize, history: Arc<History>, seed: u64, faults: SocketFaults) -> Self {
        Self { client, history, rng: Mutex::new(SmallRng::seed_from_u64(seed)), faults, monitors: Monitors::default() }
    }

    /// Returns the monitors of the open connections.
    pub(crate) fn monitors(&self) -> Monitors {
        self.monitors.clone()
    }
}

impl Connect for Network {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(async move {
            let guard = self.history.record_connection(self.client, address);
            let mut rng = {
                let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
                SmallRng::seed_from_u64(rng.next_u64())
            };
            let faults = self.faults;
            let piece = rng.random_bool(faults.piecemeal).then(|| rng.random_range(1..100));
            let read_piece = rng.random_bool(faults.slow_readers).then(|| rng.random_range(1..MAX_READ_PIECE));
            if now() < faults.until && rng.random_bool(faults.connect_panics) {
                // Without the panic hook, which would print a message for each.
                std::panic::resume_unwind(Box::new("intended panic of a connector"));
            }
            let stream = TcpStream::connect(address).await?;
            let monitor = self.monitors.monitor(&self.history);
            let socket = Socket { stream, guard, monitor, rng, piece, read_piece, faults, stalled: None, paused: None };
            Ok(Box::new(socket) as Box<dyn Io>)
        })
    }
}

/// A client's connection.
struct Socket {
    stream: TcpStream,
    guard: ConnectionGuard,
    monitor: Monitor,
    rng: SmallRng,
    /// Maximum number of bytes per write.
    piece: Option<usize>,
    /// Maximum number of bytes per read of a slow reader.
    read_piece: Option<usize>,
    faults: SocketFaults,
    stalled: Option<Pin<Box<Sleep>>>,
    /// Pause of a slow reader.
    paused: Option<Pin<Box<Sleep>>>,
}

/// Limit of the bytes per read of a slow reader.
const MAX_READ_PIECE: usize = 512;

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, guard, monitor, read_piece, faults, paused, .. } = &mut *self;
        let before = buf.filled().len();
        match read_piece.filter(|_| now() < faults.until) {
            Some(length) => {
                if let Some(pause) = paused {
                    ready!(pause.as_mut().poll(cx));
                    *paused = None;
                }
                let mut bytes = [0; MAX_READ_PIECE];
                let mut piece = ReadBuf::new(&mut bytes[..length.min(buf.remaining())]);
                ready!(Pin::new(stream).poll_read(cx, &mut piece))?;
                buf.put_slice(piece.filled());
                *paused = Some(Box::pin(sleep(faults.read_pause)));
            }
            None => ready!(Pin::new(stream).poll_read(cx, buf))?,
        }
        if buf.filled().len() > before {
            guard.record_received();
            monitor.read(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, monitor, rng, piece, faults, stalled, .. } = &mut *self;
        if stalled.is_none() && now() < faults.until && rng.random_bool(faults.stalls) {
            *stalled = Some(Box::pin(sleep(faults.stall.mul_f64(rng.random()))));
        }
        if let Some(stall) = stalled {
            ready!(stall.as_mut().poll(cx));
            *stalled = None;
        }
        let length = piece.filter(|_| now() < faults.until).map_or(bytes.len(), |piece| piece.min(bytes.len()));
        let written = ready!(Pin::new(stream).poll_write(cx, &bytes[..length]))?;
        monitor.written(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Accepts the connections of a server, some of them through a tampering proxy.
pub(crate) struct Listener {
    listener: TcpListener,
    sockets: Arc<Sockets>,
    proxies: Arc<TamperingProxies>,
    tampering: Tampering,
    history: Arc<History>,
}

impl Listener {
    /// Starts to listen on `port`.
    pub(crate) async fn bind(
        port: u16,
        sockets: Arc<Sockets>,
        proxies: Arc<TamperingProxies>,
        tampering: Tampering,
        history: Arc<History>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(("0.0.0.0", port)).await?;
        Ok(Self { listener, sockets, proxies, tampering, history })
    }
}

impl Accept for Listener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Io>, Peer)>> {
        Box::pin(async move {
            let (stream, address) = self.listener.accept().await?;
            let peer = Peer::new(address, stream.local_addr()?);
            let io = match self.proxies.intercept(self.sockets.add(stream), self.tampering) {
                Ok(proxied) => CountedStream::count(proxied, &self.history),
                Err(stream) => CountedStream::count(stream, &self.history),
            };
            Ok((io, peer))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection of a server that the history counts.
struct CountedStream<S> {
    stream: S,
    history: Arc<History>,
}

impl<S: Io> CountedStream<S> {
    fn count(stream: S, history: &Arc<History>) -> Box<dyn Io> {
        history.change_server_connections(1);
        Box::new(Self { stream, history: Arc::clone(history) })
    }
}

impl<S> Drop for CountedStream<S> {
    fn drop(&mut self) {
        self.history.change_server_connections(-1);
    }
}

impl<S: Io> AsyncRead for CountedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: Io> AsyncWrite for CountedStream<S> {
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
