//! The lifecycle of a server: building, binding, registration, serving, drain and end.
//!
//! | topic | module |
//! |---|---|
//! | options, and binding the port | `builder` |
//! | the TCP listener | `tcp` |
//! | services under their major versions | `major_version` |
//! | the service that describes the others | `reflection` |
//! | the service that reports the counters | `admin` |
//! | registration in a registry | `registration` |
//! | serving, draining and ending | `server` |
//! | the state and the counts of a server | `handle` |

mod admin;
mod builder;
mod handle;
mod major_version;
mod reflection;
mod registration;
mod server;
mod tcp;

pub use builder::ServerBuilder;
pub use handle::{ServerCounts, ServerHandle};
pub use server::Server;
