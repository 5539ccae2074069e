//! A provider of `demo.Greeter:1.0` and `shop.Goods:1.0`.

mod catalog;
mod faults;
mod greeter;

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use contracts::{GoodsServer, GreeterServer};
use msnb::{
    Server, ServerConfig,
    app::{Failure, RegistryArgs, ServerSecurity, log_to_stderr, shutdown_signal},
    layers::{Metrics, MonitorPort},
};

use crate::{catalog::GoodsCatalog, faults::Faults, greeter::PoliteGreeter};

/// Serves demo.Greeter:1.0 and shop.Goods:1.0 until Ctrl-C or SIGTERM, then drains.
#[derive(Debug, Parser)]
struct Args {
    /// The address to listen on; with port 0 the system chooses a free port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7788")]
    listen: SocketAddr,
    /// The address to register, if consumers cannot use the listen address.
    #[arg(long, value_name = "ADDRESS")]
    advertise: Option<SocketAddr>,
    #[command(flatten)]
    registry: RegistryArgs,
    /// The share of the load relative to other providers, 0 to 10000.
    #[arg(long, default_value_t = 1.0)]
    weight: f64,
    /// The zone of the provider; consumers in the same zone prefer it.
    #[arg(long, value_name = "ZONE", env = "MSNB_ZONE")]
    zone: Option<String>,
    /// A tag of the provider: only calls with one of its tags use it. May be repeated.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// The part of the calls that fail with Internal, 0 to 1, to try outlier ejection.
    #[arg(long, value_name = "PART", default_value_t = 0.0)]
    fail_rate: f64,
    /// The delay of each call in milliseconds, to try load balancing.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u64,
    /// Answers also callers of gRPC, on the same port.
    #[cfg(feature = "grpc")]
    #[arg(long)]
    grpc: bool,
    /// Registers the services also for consumers of Dubbo; implies --grpc.
    #[cfg(feature = "grpc")]
    #[arg(long)]
    dubbo: bool,
    /// Reports counters and latencies by method to `msnb console`.
    #[arg(long)]
    admin: bool,
    #[command(flatten)]
    security: ServerSecurity,
    /// Serves /metrics, for Prometheus, and /health at this address.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// Also answers HTTP requests with JSON on the same port.
    #[cfg(feature = "http")]
    #[arg(long)]
    http: bool,
    /// The name under which callers of HTTP, such as Spring Cloud, find the provider in the registry; implies --http.
    #[cfg(feature = "http")]
    #[arg(long, value_name = "NAME")]
    http_service: Option<String>,
    /// How long the provider serves late callers after it has deregistered, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    drain_notice: u64,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    log_to_stderr("info");
    let registry = args.registry.connect().await?;
    let url = registry.url().to_owned();
    let mut server = Server::builder()
        .registry(registry)
        .service(GreeterServer::new(PoliteGreeter))
        .service(GoodsServer::new(GoodsCatalog))
        .weight(args.weight)
        .tags(args.tag)
        .admin(args.admin);
    server = server.config(ServerConfig::default().with_drain_notice(Duration::from_secs(args.drain_notice)));
    #[cfg(feature = "http")]
    if args.http || args.http_service.is_some() {
        let http = args.http_service.into_iter().fold(msnb::http::Http::new(), msnb::http::Http::service_name);
        server = server.endpoint(http);
    }
    if let Some(zone) = args.zone {
        server = server.zone(zone);
    }
    let metrics = Metrics::new();
    if args.metrics.is_some() {
        // Before the layer of faults, so that the metrics count them.
        server = server.layer(metrics.clone());
    }
    if args.fail_rate > 0.0 || args.delay > 0 {
        server = server.layer(Faults::new(args.fail_rate, Duration::from_millis(args.delay)));
    }
    #[cfg(feature = "grpc")]
    if args.grpc || args.dubbo {
        server = server.endpoint(msnb::grpc::Grpc::new().dubbo(args.dubbo));
    }
    if let Some(address) = args.advertise {
        server = server.advertise(address);
    }
    let server = args.security.apply(server);
    // Bind the monitor port before the provider registers itself.
    let monitor = match args.metrics {
        Some(address) => {
            let port = MonitorPort::bind(address, metrics.clone()).await;
            Some(port.map_err(|error| format!("cannot serve metrics on {address}: {error}"))?)
        }
        None => None,
    };
    let server = server.bind(args.listen).await?;
    let shutdown = shutdown_signal();
    println!(
        "serving demo.Greeter:1.0 and shop.Goods:1.0 on {}, listed as {} in {url}",
        server.local_address(),
        server.advertised_address()
    );
    if let Some(monitor) = &monitor {
        metrics.watch_server(server.handle());
        println!("metrics on http://{}/metrics", monitor.local_address());
    }
    server.run_until(shutdown).await?;
    println!("drained");
    Ok(())
}
