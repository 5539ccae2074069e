//! `msnb-bench server`: the ordinary server, with its default configuration.

use std::{io::Write, net::SocketAddr};

use rpc_core::Service;
use rpc_server::{Server, ServerConfig};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Failure,
    echo::{EchoServer, Parrot},
};

/// Serves the echo until SIGTERM or Ctrl-C.
pub(crate) async fn serve(address: SocketAddr) -> Result<(), Failure> {
    serve_with(EchoServer::new(Parrot), address, ServerConfig::default()).await
}

/// Serves an echo with other numbers, for a job that has more connections than the default lets in from one address.
pub(crate) async fn serve_with(echo: impl Service, address: SocketAddr, config: ServerConfig) -> Result<(), Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let server = Server::builder().service(echo).config(config).bind(address).await?;
    announce(&server.local_address().to_string())?;
    let stopped = async move {
        // Dropping the other loses nothing: the process ends.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(server.run_until(stopped).await?)
}

/// Prints where a server listens, for who started it with port 0.
pub(crate) fn announce(address: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "serving bench.Echo:1.0 on {address}")?;
    out.flush()
}
