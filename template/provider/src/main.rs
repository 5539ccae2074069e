//! Serves `{{service}}` until Ctrl-C or SIGTERM.

use std::net::SocketAddr;

use clap::Parser;
use contract::{{service}}Server;
use msnb::{
    Server,
    app::{Failure, RegistryArgs, log_to_stderr, shutdown_signal},
};
use provider::My{{service}};

#[derive(Debug, Parser)]
struct Args {
    /// The address to listen on; with port 0 the system chooses a free port.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    log_to_stderr("info");
    let args = Args::parse();
    let registry = args.registry.connect().await?;
    let server = Server::builder().registry(registry).service({{service}}Server::new(My{{service}})).bind(args.listen).await?;
    println!("{} listens on {}", env!("CARGO_PKG_NAME"), server.local_address());
    Ok(server.run_until(shutdown_signal()).await?)
}
