//! [`Listener`] and its [`Connector`]: connections in memory.

use std::{io, net::SocketAddr};

use rpc_core::{
    BoxFuture, Peer,
    transport::{Accept, Io},
};
use tokio::{
    io::DuplexStream,
    sync::{Mutex, mpsc},
};

/// The server's end: accepts the connections of its [`Connector`].
pub(crate) struct Listener(Mutex<mpsc::Receiver<(DuplexStream, SocketAddr)>>);

/// The peers' end: opens connections to its [`Listener`].
pub(crate) struct Connector(mpsc::Sender<(DuplexStream, SocketAddr)>);

impl Listener {
    pub(crate) fn new() -> (Connector, Self) {
        let (sender, receiver) = mpsc::channel(1);
        (Connector(sender), Self(Mutex::new(receiver)))
    }
}

impl Connector {
    /// Opens a connection from the address `from` that buffers `capacity` bytes in each direction.
    pub(crate) async fn connect(&self, from: SocketAddr, capacity: usize) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(capacity);
        self.0.send((theirs, from)).await.expect("the listener is alive");
        ours
    }
}

impl Accept for Listener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Io>, Peer)>> {
        Box::pin(async {
            let (stream, from) = self.0.lock().await.recv().await.ok_or(io::ErrorKind::NotConnected)?;
            Ok((Box::new(stream) as Box<dyn Io>, Peer::new(from, ADDRESS)))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(ADDRESS)
    }
}

/// The address of the server, and of peers whose address does not matter.
pub(crate) const ADDRESS: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 7788));
