//! `msnb-bench server`: the msnb server with default configuration.

use std::{io::Write, net::SocketAddr};

use rpc_core::Service;
use rpc_server::{Server, ServerBuilder, ServerConfig};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    echo::{EchoServer, EchoService},
    failure::Failure,
};

/// Serves the echo service until SIGTERM or Ctrl-C.
pub(crate) async fn serve(address: SocketAddr) -> Result<(), Failure> {
    serve_with(EchoServer::new(EchoService), address, ServerConfig::default()).await
}

/// Serves the echo service until SIGTERM or Ctrl-C, also for callers of gRPC.
#[cfg(feature = "compare")]
pub(crate) async fn serve_grpc(address: SocketAddr) -> Result<(), Failure> {
    run(Server::builder().service(EchoServer::new(EchoService)).endpoint(rpc_grpc::Grpc::new()), address).await
}

/// Serves an echo service with another configuration, for jobs with more connections than the default permits from one
/// address.
pub(crate) async fn serve_with(echo: impl Service, address: SocketAddr, config: ServerConfig) -> Result<(), Failure> {
    run(Server::builder().service(echo).config(config), address).await
}

/// Serves until SIGTERM or Ctrl-C.
pub(crate) async fn run(server: ServerBuilder, address: SocketAddr) -> Result<(), Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let server = server.bind(address).await?;
    announce(&server.local_address().to_string())?;
    let stopped = async move {
        // Cancel-safe: the process ends after the first signal.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(server.run_until(stopped).await?)
}

/// Prints the address of a server, for a parent process that started it with port 0.
pub(crate) fn announce(address: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "serving bench.Echo:1.0 on {address}")?;
    out.flush()
}
