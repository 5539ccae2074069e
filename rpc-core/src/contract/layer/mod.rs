//! Layers: what stands around all calls of a client or a server.
//!
//! A layer is an `async fn` around the rest of the call's way: what stands before its `next.run(…).await` happens before the
//! call, what stands behind it afterwards.

mod client;
mod server;

pub use client::{ClientLayer, ClientNext, Layered, LayeredCall, Outgoing};
pub use server::{Arrival, LayeredService, Served, ServerLayer, ServerLayers, ServerNext};
