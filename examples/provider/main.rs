//! Serves `demo.Greeter:1.0` and `shop.Goods:1.0` until Ctrl-C or SIGTERM, then drains.

mod greeter;
mod shelf;

use std::net::SocketAddr;

use clap::Parser;
use contracts::{GoodsServer, GreeterServer};
use examples::{Failure, RegistryArgs, ServerSecurity, log_to_stderr, stopped_by_signal};
use rpc_layers::{Metrics, MonitorPort};
use rpc_server::Server;

use crate::{greeter::PoliteGreeter, shelf::Shelf};

/// Serves demo.Greeter:1.0 and shop.Goods:1.0 until Ctrl-C or SIGTERM, then drains.
#[derive(Debug, Parser)]
struct Args {
    /// The address to listen on; port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7788")]
    listen: SocketAddr,
    /// The address to list in the registry, where it is not the one listened on.
    #[arg(long, value_name = "ADDRESS")]
    advertise: Option<SocketAddr>,
    #[command(flatten)]
    registry: RegistryArgs,
    /// The share of the load relative to other providers, 0 to 10000.
    #[arg(long, default_value_t = 1.0)]
    weight: f64,
    #[command(flatten)]
    security: ServerSecurity,
    /// Answer /metrics, for Prometheus, and /health at this address.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    log_to_stderr("info");
    let registry = rpc_registry::connect(&args.registry.url).await?;
    let url = registry.url().to_owned();
    let mut server = Server::builder()
        .registry(registry)
        .service(GreeterServer::new(PoliteGreeter))
        .service(GoodsServer::new(Shelf))
        .weight(args.weight);
    if let Some(address) = args.advertise {
        server = server.advertise(address);
    }
    let mut server = args.security.apply(server);
    let metrics = Metrics::new();
    if args.metrics.is_some() {
        server = server.layer(metrics.clone());
    }
    // Before anybody is told that it serves.
    let monitor = match args.metrics {
        Some(address) => {
            let port = MonitorPort::bind(address, metrics.clone()).await;
            Some(port.map_err(|error| format!("cannot show metrics at {address}: {error}"))?)
        }
        None => None,
    };
    let server = server.bind(args.listen).await?;
    println!(
        "serving demo.Greeter:1.0 and shop.Goods:1.0 on {}, listed as {} in {url}",
        server.local_address(),
        server.advertised_address()
    );
    if let Some(monitor) = &monitor {
        metrics.watch_server(server.handle());
        println!("metrics on http://{}/metrics", monitor.local_address());
    }
    server.run_until(stopped_by_signal()).await?;
    println!("drained");
    Ok(())
}
