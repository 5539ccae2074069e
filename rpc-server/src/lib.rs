//! The server side of msnb: it accepts connections, dispatches their calls to services, announces itself in a registry, and
//! leaves in order.
//!
//! | question | file |
//! |---|---|
//! | how is a server made, run and ended? | `server.rs` |
//! | which numbers can be changed? | `config.rs` |
//! | who may connect? | `acceptor.rs` |
//! | what happens to a frame? | `connection.rs` |
//! | which calls run on a connection? | `running.rs` |
//! | how does a call run once? | `once.rs` |
//! | which service is a route? | `dispatcher.rs` |
//! | how is it found? | `registration.rs` |

mod acceptor;
mod config;
mod connection;
mod dispatcher;
mod once;
mod registration;
mod running;
mod server;

pub use config::ServerConfig;
pub use once::{Claim, OnceStore};
pub use server::{Server, ServerBuilder};
