//! [`Listener`] and its [`Door`]: connections in memory.

use std::{io, net::SocketAddr};

use rpc_core::{
    BoxFuture, Peer,
    transport::{Accept, Io},
};
use tokio::{
    io::DuplexStream,
    sync::{Mutex, mpsc},
};

/// The server's side.
pub(crate) struct Listener(Mutex<mpsc::Receiver<DuplexStream>>);

/// The peers' side.
pub(crate) struct Door(mpsc::Sender<DuplexStream>);

impl Listener {
    pub(crate) fn new() -> (Door, Self) {
        let (door, listener) = mpsc::channel(1);
        (Door(door), Self(Mutex::new(listener)))
    }
}

impl Door {
    /// A connection on whose way this many bytes find room in each direction.
    pub(crate) async fn connect(&self, room: usize) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(room);
        self.0.send(theirs).await.expect("the server listens");
        ours
    }
}

impl Accept for Listener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Io>, Peer)>> {
        Box::pin(async {
            let stream = self.0.lock().await.recv().await.ok_or(io::ErrorKind::NotConnected)?;
            Ok((Box::new(stream) as Box<dyn Io>, Peer::new(ADDRESS, ADDRESS)))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(ADDRESS)
    }
}

const ADDRESS: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 7788));
