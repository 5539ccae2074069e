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
//! | who connects, and reconnects? | `watchdog.rs`, its delays `backoff.rs` |
//! | who is told when something changed? | `changes.rs` |
//! | where do random numbers come from? | `chance.rs` |
//! | what bounds retries and connects? | `budgets.rs`, by `token_bucket.rs` |
//! | how is a call sent on a connection? | `channel.rs`, its calls `in_flight.rs` |
//! | which mistakes can be made on purpose, for tests? | `planted.rs` |
//! | what happens to a frame? | `connection.rs`, its pings `heartbeat.rs` |

mod addresses;
mod answer;
mod backoff;
mod balance;
mod budgets;
mod calling;
mod chance;
mod changes;
mod channel;
mod channels;
mod client;
mod config;
mod connection;
mod endpoint;
mod heartbeat;
mod in_flight;
#[cfg(all(test, shuttle))]
mod interleavings;
#[cfg_attr(not(feature = "planted-bugs"), allow(unreachable_pub, reason = "it is public with the feature"))]
mod planted;
mod snapshot;
mod token_bucket;
mod watchdog;

pub use balance::Balance;
pub use calling::Calling;
pub use client::{Client, ClientBuilder};
pub use config::ClientConfig;
pub use endpoint::EndpointState;
#[cfg(feature = "planted-bugs")]
pub use planted::{Bug, plant};
