//! The life of a server: it is built, bound, registered, serves, drains and ends.
//!
//! | topic | module |
//! |---|---|
//! | options, and binding the port | `builder` |
//! | the TCP listener | `tcp` |
//! | registration in a registry | `registration` |
//! | serving, draining and ending | `server` |
//! | the state and the counts of a server | `handle` |

mod builder;
mod handle;
mod registration;
mod server;
mod tcp;

pub use builder::ServerBuilder;
pub use handle::{ServerCounts, ServerHandle};
pub use server::Server;
