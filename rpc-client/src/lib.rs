//! The client of msnb.
//!
//! It finds providers in a registry, keeps a connection to each, balances calls among the providers that answer, and
//! ends every call by its deadline.
//!
//! Build one [`Client`] and clone it: clones share provider lists, connections and the retry budget. Code that applies
//! to all calls belongs in a layer: `rpc_core::layer::Layered::new(client).layer(…)`; the crate rpc-layers provides
//! several.
//!
//! With [`ClientBuilder::tls`] the client uses TLS only; with [`ClientBuilder::token`] it proves its identity to
//! servers that require a token. The client treats a server that it does not trust, or that rejects its credentials,
//! like an unreachable one: it reconnects with growing delays, and calls report the cause.
//!
//! # Map
//!
//! The modules follow the path of a call: each folder uses only the folders below it in this table.
//!
//! | topic | module |
//! |---|---|
//! | [`Client`], [`ClientBuilder`] | `client`, `builder` |
//! | calls of methods that are known by their names only ([`JsonCall`]) | `json_call` |
//! | one call: target, pick, attempts, retries, outcome ([`ClientCall`]) | `call` |
//! | the state that clones and calls share | `client_core` |
//! | provider lists, load balancing ([`Balance`]) | `discovery` |
//! | addresses, connects, reconnects ([`EndpointState`]) | `endpoint` |
//! | one connection: channel, in-flight table, driver role | `connection` |
//! | [`ClientConfig`], [`ClientCounts`] | `config`, `counters` |
//! | contracts that differ at both ends | `compatibility` |
//! | the retry budget | `retry_budget` |
//! | notifications about changes, random numbers | `changes`, `rng` |
//! | cache-line layout | `cache_padded`, `sharded_counter` |
//! | access to private structures for benchmarks | `bench` |
//!
//! # Errors
//!
//! A call fails with an `rpc_core::Error`, whose `delivery()` states whether the handler may have executed. The client
//! retries a call that did not execute, and a call that may have executed if its method is `idempotent` or `once`. So
//! an error remains after at most three attempts, or when the deadline or the retry budget permits no other attempt.
//!
//! # Cancel safety
//!
//! Dropping a call's future abandons the call, frees its slot in the in-flight table, and sends CANCEL to the peer.
//!
//! # Examples
//!
//! ```
//! use rpc_client::{Client, ClientConfig};
//! use rpc_core::{Code, Delivery, rpc_service};
//!
//! #[rpc_service(name = "demo.Greeter", version = "1.0")]
//! trait Greeter {
//!     #[rpc(idempotent)]
//!     async fn hello(&self, name: String) -> String;
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // With `.registry(…)` the client finds providers by service name; without it, each call states an address.
//! let client = Client::builder().config(ClientConfig::default().with_lanes(2)).build()?;
//! let greeter = GreeterClient::new(client.clone());
//!
//! // A port of this machine without a listener.
//! let unused = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
//! let error = greeter.hello("Bo".into()).address(unused).await.unwrap_err();
//! assert_eq!((error.code(), error.delivery()), (Code::Unavailable, Delivery::NotExecuted));
//! assert!(error.is_retryable());
//!
//! client.close().await;
//! # Ok(()) }
//! ```

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod builder;
mod cache_padded;
mod call;
mod changes;
mod client;
mod client_core;
mod compatibility;
mod config;
mod connection;
mod counters;
mod discovery;
mod endpoint;
mod json_call;
mod retry_budget;
mod rng;
mod rules;
mod sharded_counter;
mod statistics;

pub use builder::ClientBuilder;
pub use call::future::ClientCall;
pub use client::Client;
pub use config::ClientConfig;
pub use counters::ClientCounts;
pub use discovery::{
    balance::Balance,
    balancer::{AttemptRecord, Balancer, ProviderSnapshot},
};
pub use endpoint::state::EndpointState;
pub use json_call::JsonCall;
pub use rules::Rules;
pub use statistics::{ProviderCounts, RouteCounts, ServiceStatus};
