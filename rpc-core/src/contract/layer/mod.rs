//! Layers: middleware for all calls of a client or a server.
//!
//! A layer is an `async fn` around the remaining layers and the call itself: code before its `next.run(…).await`
//! executes before the call, code after it when the call has ended.

mod client;
mod progress;
mod server;

pub use client::{ClientLayer, ClientNext, Layered, LayeredCall, OutgoingCall};
pub(super) use progress::Progress;
pub use server::{IncomingCall, LayeredService, Served, ServerLayer, ServerLayers, ServerNext};
