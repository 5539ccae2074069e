//! [`Network`] and [`Listener`]: turmoil's network for clients and for servers.

use std::{io, net::SocketAddr};

use rpc_core::{
    BoxFuture, Peer,
    transport::{Accept, Connect, Io},
};
use turmoil::net::{TcpListener, TcpStream};

/// Opens the connections of a client.
pub(crate) struct Network;

impl Connect for Network {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(async move { Ok(Box::new(TcpStream::connect(address).await?) as Box<dyn Io>) })
    }
}

/// Accepts the connections of a server.
pub(crate) struct Listener(TcpListener);

impl Listener {
    pub(crate) async fn bind(port: u16) -> io::Result<Self> {
        Ok(Self(TcpListener::bind(("0.0.0.0", port)).await?))
    }
}

impl Accept for Listener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Io>, Peer)>> {
        Box::pin(async move {
            let (stream, address) = self.0.accept().await?;
            let peer = Peer::new(address, stream.local_addr()?);
            Ok((Box::new(stream) as Box<dyn Io>, peer))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
