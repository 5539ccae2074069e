//! [`Connect`] and [`Accept`]: the sources of connections.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

use super::tcp_io::TcpIo;
use crate::{BoxFuture, Peer};

/// A bidirectional byte stream: TCP, a protocol over TCP, or a simulation.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Opens connections for a client.
pub trait Connect: Send + Sync + 'static {
    /// Connects to `address`. The client limits the duration.
    ///
    /// # Errors
    ///
    /// Any error that prevents the connection; the client retries later.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection if it was opened.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>>;
}

/// Accepts connections for a server.
pub trait Accept: Send + Sync + 'static {
    /// Accepts the next connection.
    ///
    /// # Errors
    ///
    /// Any error that prevents this; the server continues to accept. It waits before the next attempt unless the peer
    /// caused the error (`ConnectionAborted`, `ConnectionReset`).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Io>, Peer)>>;

    /// Returns the address of the listener.
    ///
    /// # Errors
    ///
    /// The error of the operating system.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// Connections by TCP, with `TCP_NODELAY`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Connect for Tcp {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(async move { Ok(Box::new(TcpIo::new(TcpStream::connect(address).await?)?) as Box<dyn Io>) })
    }
}

impl Accept for TcpListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Io>, Peer)>> {
        Box::pin(async move {
            let (stream, peer) = TcpListener::accept(self).await?;
            // These calls fail if the peer has already disconnected, which is not an error of the listener.
            let aborted = |error: io::Error| io::Error::new(io::ErrorKind::ConnectionAborted, error);
            let peer = Peer::new(peer, stream.local_addr().map_err(aborted)?);
            Ok((Box::new(TcpIo::new(stream).map_err(aborted)?) as Box<dyn Io>, peer))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}
