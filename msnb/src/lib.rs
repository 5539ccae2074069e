//! RPC between Rust services that discover each other through a registry such as Nacos.
//!
//! A trait with [`#[rpc_service]`](macro@rpc_service) becomes a server and a client. The client keeps one connection to each
//! provider in the registry, balances calls, and ends every call by its deadline: with its answer, or with an [`Error`]
//! that states whether the handler may have executed.
//!
//! This crate exports the items of the crates below it. A contract crate, which has only traits and their types, depends on
//! it with `default-features = false`.
//!
//! | module | contents | feature |
//! |---|---|---|
//! | [the root](#reexports) | contracts, calls, streams, errors; `Client`, `Server` | `client` and `server`, the default features |
//! | `registry` | `registry::connect` and the registries | `nacos`, `zookeeper`, `etcd`, `dns`; none for `local:`, `fixed:` and `memory:` |
//! | `client`, `server` | the other types of both: balancing, rules, state, stores of answers | `client`, `server` |
//! | `layer`, `layers` | the trait of middleware, and rate limits, logs, traces and metrics | `layers`, `opentelemetry` |
//! | `http` | HTTP/JSON: an endpoint of a server, and a caller of JSON services | `http` |
//! | `grpc` | gRPC: an endpoint of a server | `grpc` |
//! | `schema` | Protocol Buffers, OpenAPI and TypeScript from contracts | `schema` |
//! | `app` | for `main`: command-line options, logs to stderr, signals, errors | `app` |
//! | `tls` | certificates | `tls` |
//! | `testing` | callers that fail or follow a script | |
//! | `simulation` | for tests: clusters with faults on a simulated network | `simulation` |
//!
//! The features `gzip`, `lz4` and `zstd` enable compressions of payloads, and `toml` enables rules in TOML. `full` enables
//! all features.
//!
//! # Examples
//!
//! ```
//! use msnb::{Client, Server, registry, rpc_service};
//!
//! #[rpc_service(name = "demo.Greeter", version = "1.0")]
//! trait Greeter {
//!     #[rpc(idempotent, timeout = "3s")]
//!     async fn hello(&self, name: String) -> String;
//! }
//!
//! struct MyGreeter;
//!
//! impl Greeter for MyGreeter {
//!     async fn hello(&self, name: String) -> String {
//!         format!("Hello {name}")
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), msnb::Error> {
//! let registry = registry::connect("memory:").await?; // "nacos://127.0.0.1:8848" in production
//! let server = Server::builder().registry(registry.clone()).service(GreeterServer::new(MyGreeter));
//! let client = Client::builder().registry(registry).build()?;
//! let greeter = GreeterClient::new(client);
//! let consumer = async { assert_eq!(greeter.hello("Bo".into()).wait_for_ready(true).await.unwrap(), "Hello Bo") };
//! server.bind("127.0.0.1:0").await?.run_until(consumer).await // serves until the consumer is done, then drains
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "app")]
pub use rpc_cli as app;
#[cfg(feature = "client")]
pub use rpc_client as client;
#[cfg(feature = "client")]
pub use rpc_client::{Client, ClientConfig};
#[doc(inline)]
pub use rpc_core::*;
#[cfg(feature = "grpc")]
pub use rpc_grpc as grpc;
#[cfg(feature = "http")]
pub use rpc_http as http;
#[cfg(feature = "layers")]
pub use rpc_layers as layers;
#[doc(inline)]
pub use rpc_macros::rpc_service_of_msnb as rpc_service;
#[cfg(any(feature = "client", feature = "server"))]
pub use rpc_registry as registry;
#[cfg(feature = "schema")]
pub use rpc_schema as schema;
#[cfg(feature = "server")]
pub use rpc_server as server;
#[cfg(feature = "server")]
pub use rpc_server::{Server, ServerConfig};
#[cfg(feature = "simulation")]
pub use rpc_simulation as simulation;
