//! [`Connect`] and [`Accept`]: where connections come from.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

use crate::{BoxFuture, Peer};

/// A stream of bytes in both directions: TCP, something over TCP, or a simulation of it.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Makes connections for a client.
pub trait Connect: Send + Sync + 'static {
    /// Connects to `address`. The client bounds the time.
    ///
    /// # Errors
    ///
    /// Whatever keeps the connection from being made; the client tries again later.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the connection is not made or is closed.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>>;
}

/// Takes connections for a server.
pub trait Accept: Send + Sync + 'static {
    /// Takes the next connection.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being taken; the server goes on accepting, after a rest unless the fault was the peer's
    /// (`ConnectionAborted`, `ConnectionReset`).
    ///
    /// # Cancel safety
    ///
    /// Dropped, no connection is lost.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Io>, Peer)>>;

    /// The address that is listened on.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// Connections by TCP, without delay for small writes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Connect for Tcp {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

impl Accept for TcpListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Io>, Peer)>> {
        Box::pin(async move {
            let (stream, peer) = TcpListener::accept(self).await?;
            // A peer that is gone again by now is no fault of the listener.
            let gone = |error: io::Error| io::Error::new(io::ErrorKind::ConnectionAborted, error);
            stream.set_nodelay(true).map_err(gone)?;
            let peer = Peer::new(peer, stream.local_addr().map_err(gone)?);
            Ok((Box::new(stream) as Box<dyn Io>, peer))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}
