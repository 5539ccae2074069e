//! The lifecycle of a server: building, binding, registration, serving, drain and end.
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
