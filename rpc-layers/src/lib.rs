//! Layers for the clients and servers of msnb, built on the public traits of `rpc_core::layer`.
//!
//! | topic | item |
//! |---|---|
//! | limiting the call rate of callers and methods | [`RateLimit`] |
//! | timeouts by method and service | [`Timeouts`] |
//! | logging each call | [`Log`] |
//! | tracing a call across processes | [`Trace`], [`TraceContext`] |
//! | counts and durations of calls, state of clients and servers | [`Metrics`] |
//! | an HTTP port for metrics and health | [`MonitorPort`] |
//!
//! The other crates of msnb do not depend on this one, so programs without layers pay nothing for them.
//!
//! # Examples
//!
//! ```
//! use rpc_client::Client;
//! use rpc_core::{layer::Layered, rpc_service};
//! use rpc_layers::{Metrics, MonitorPort, RateLimit, Trace};
//! use rpc_server::Server;
//!
//! #[rpc_service(name = "demo.Greeter", version = "1.0")]
//! trait Greeter {
//!     async fn hello(&self, name: String) -> String;
//! }
//! # struct MyGreeter;
//! # impl Greeter for MyGreeter {
//! #     async fn hello(&self, name: String) -> String { format!("Hello {name}") }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let metrics = Metrics::new();
//! let server = Server::builder()
//!     .service(GreeterServer::new(MyGreeter))
//!     .layer(Trace)
//!     .layer(metrics.clone())
//!     .layer(RateLimit::per_peer(1000.0, 2000.0))
//!     .bind("127.0.0.1:0")
//!     .await?;
//! let address = server.local_address();
//! metrics.watch_server(server.handle());
//! let port = MonitorPort::bind("127.0.0.1:0", metrics.clone()).await?; // /metrics and /health
//! println!("metrics on http://{}/metrics", port.local_address());
//!
//! let client = Client::builder().build()?;
//! metrics.watch_client(client.clone());
//! let greeter = GreeterClient::new(Layered::new(client).layer(Trace).layer(metrics.clone()));
//! let consumer = async {
//!     assert_eq!(greeter.hello("Bo".into()).address(address).await.unwrap(), "Hello Bo");
//! };
//! server.run_until(consumer).await?;
//! assert!(metrics.text().contains("msnb_server_calls_total{route=\"demo.Greeter:1.0/hello\",code=\"Ok\"} 1"));
//! # Ok(()) }
//! ```

mod log;
mod metrics;
mod monitor_port;
mod outcome;
mod rate_limit;
mod sink;
mod timeouts;
mod trace;

pub use log::Log;
pub use metrics::Metrics;
pub use monitor_port::MonitorPort;
pub use rate_limit::RateLimit;
pub use timeouts::Timeouts;
pub use trace::{Trace, TraceContext};
