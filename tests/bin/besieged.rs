//! Serves `test.Wire:1.0` with small limits until SIGTERM, for tests that attack it.
//!
//! Usage: `tests-besieged LISTEN [CERTIFICATE KEY TOKENS]`; the optional arguments enable TLS and require a token. With the
//! environment variable `BESIEGED_HTTP` it also serves HTTP and gRPC.

use std::{env, error::Error, time::Duration};

use rpc_cli::{log_to_stderr, shutdown_signal};
use rpc_core::{Tokens, tls::ServerTls, transport::TransportConfig};
use rpc_grpc::Grpc;
use rpc_http::Http;
use rpc_server::{Server, ServerConfig};
use tests::wire::{WireServer, Wired};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let listen = args.next().ok_or("missing argument LISTEN")?;
    log_to_stderr("error");
    let mut server = Server::builder().service(WireServer::new(Wired::default())).config(config());
    if env::var_os("BESIEGED_HTTP").is_some() {
        server = server.endpoint(Http::new()).endpoint(Grpc::new());
    }
    if let (Some(certificate), Some(key), Some(tokens)) = (args.next(), args.next(), args.next()) {
        server = server.tls(ServerTls::new(certificate, key)).require_token(Tokens::new().with_file(tokens));
    }
    let server = server.bind(listen).await?;
    let shutdown = shutdown_signal();
    println!("{}", server.local_address());
    server.run_until(shutdown).await?;
    Ok(())
}

/// Limits for a host with 256 MiB: the frame size, the outbox and the number of connections bound the memory that
/// attackers can occupy.
fn config() -> ServerConfig {
    let mut transport = TransportConfig::default();
    transport.max_frame = 1 << 20;
    transport.outbox = 64 << 10;
    transport.frame_time = Duration::from_secs(1);
    transport.write_stall = Duration::from_secs(1);
    ServerConfig::default()
        .with_max_connections(600)
        .with_max_connections_per_ip(30)
        .with_max_in_flight(64)
        .with_max_running(500)
        .with_max_decompressed(4 << 20)
        .with_read_idle(Duration::from_secs(5))
        .with_transport(transport)
}
