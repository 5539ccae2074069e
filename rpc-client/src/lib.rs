//! The client side of msnb: it finds providers in a registry, keeps one living channel to each, chooses among those that
//! answer, and ends every call by its deadline.
//!
//! | question | file |
//! |---|---|
//! | how is a client made and closed? | `client.rs` |
//! | which numbers can be changed? | `config.rs` |
//! | what happens to a call, step by step? | `calling.rs`, and to its answer `answer.rs` |
//! | which providers has a service? | `addresses.rs`, on disk `snapshot.rs` |
//! | which of them is called? | `balance.rs` |
//! | which connections are there? | `channels.rs`, to one address `endpoint.rs` |
//! | how is a connection made safe, and what is proved on it? | `credentials.rs` |
//! | who connects, and reconnects? | `watchdog.rs`, its delays `backoff.rs` |
//! | who is told when something changed? | `changes.rs` |
//! | what is counted? | `counters.rs` |
//! | where do random numbers come from? | `chance.rs` |
//! | what bounds retries and connects? | `budgets.rs` |
//! | how is a call sent on a connection? | `channel.rs`, its calls `in_flight.rs` |
//! | which mistakes can be made on purpose, for tests? | `planted.rs` |
//! | what happens to a frame? | `connection.rs`, its pings `heartbeat.rs` |
//!
//! Make one [`Client`] and clone it: clones share addresses, connections and the retry budget. What should stand around all
//! its calls is a layer: `rpc_core::layer::Layered::new(client).layer(…)`. The crate rpc-layers has some.
//!
//! With [`ClientBuilder::tls`] it speaks TLS only; with [`ClientBuilder::token`] it proves who it is to servers that ask. A server
//! that it does not trust, or that does not accept it, is connected to again with growing delays like one that is out of
//! reach; calls name what was wrong.
//!
//! # Errors
//!
//! A call fails with an `rpc_core::Error`. Its `delivery()` says whether the handler may have run. What did not run is sent again
//! by the client itself; what may have run only for methods that are `idempotent` or run `once`. So an error is what was left
//! after at most three attempts, or what could not be tried again in time.
//!
//! # Cancel safety
//!
//! Dropping a call's future gives the call up, frees its place and tells the peer.
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
//! // With `.registry(…)` providers are found by name; without one, each call says whom it is for.
//! let client = Client::builder().config(ClientConfig::default().with_lanes(2)).build()?;
//! let greeter = GreeterClient::new(client.clone());
//!
//! // A port of this machine at which nobody listens.
//! let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
//! let error = greeter.hello("Bo".into()).address(nobody).await.unwrap_err();
//! assert_eq!((error.code(), error.delivery()), (Code::Unavailable, Delivery::NotExecuted));
//! assert!(error.is_retryable());
//!
//! client.close().await;
//! # Ok(()) }
//! ```

mod cache_padded;
mod call;
mod changes;
mod client;
mod config;
mod connection;
mod counters;
mod discovery;
mod endpoint;
#[cfg_attr(not(feature = "planted-bugs"), allow(unreachable_pub, reason = "it is public with the feature"))]
mod planted;
mod retry_budget;
mod rng;

pub use call::future::Calling;
pub use client::{Client, ClientBuilder};
pub use config::ClientConfig;
pub use counters::ClientCounts;
pub use discovery::balance::Balance;
pub use endpoint::EndpointState;
#[cfg(feature = "planted-bugs")]
pub use planted::{Bug, plant};
