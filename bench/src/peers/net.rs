//! TCP helpers and the type of open connections, which all peers share.

use std::{any::Any, net::SocketAddr};

use tokio::net::{TcpListener, TcpStream};

use crate::{failure::Failure, server};

/// Connections that stay open until this is dropped.
pub(crate) type OpenConnections = Vec<Box<dyn Any + Send>>;

/// Listens and prints the address.
pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await?;
    server::announce(&listener.local_addr()?.to_string())?;
    Ok(listener)
}

/// Connects with `TCP_NODELAY`.
pub(crate) async fn dial(address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Accepts a connection and sets `TCP_NODELAY`.
pub(crate) async fn accept(listener: &TcpListener) -> Result<TcpStream, Failure> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
