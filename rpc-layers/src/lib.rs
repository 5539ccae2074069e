//! Layers for msnb's clients and servers, made of what `rpc_core::layer` gives to everyone.
//!
//! | question | item |
//! |---|---|
//! | how often may a peer call? | [`RateLimit`] |
//! | which calls were there? | [`Log`] |
//! | what did a call cause, across processes? | [`Trace`], [`TraceContext`] |
//! | how many calls, how long, how are client and server doing? | [`Metrics`] |
//! | where does one look? | [`MonitorPort`] |
//!
//! A program that does not use them pays nothing, and depends on nothing of this crate.
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
mod trace;

pub use log::Log;
pub use metrics::Metrics;
pub use monitor_port::MonitorPort;
pub use rate_limit::RateLimit;
pub use trace::{Trace, TraceContext};
