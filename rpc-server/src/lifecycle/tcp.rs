//! Binding the TCP listener of a server.

use std::{
    io::{Error, ErrorKind, Result},
    net::SocketAddr,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, ToSocketAddrs, lookup_host};

/// Listens on the first of the addresses that can be bound.
pub(super) async fn listen(address: impl ToSocketAddrs) -> Result<TcpListener> {
    let mut last = Error::new(ErrorKind::InvalidInput, "the name has no address");
    for address in lookup_host(address).await? {
        match bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(last)
}

fn bind(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted server binds its port while connections of its predecessor are in TIME_WAIT. On Windows the option
    // would let two servers share a port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The connections that the system holds for the accept loop; tokio uses the same default.
const BACKLOG: i32 = 1024;
