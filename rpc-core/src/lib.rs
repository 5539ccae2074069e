//! The words and seams of msnb, and the transport that both ends share.

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
mod call;
mod caller;
mod codec;
mod compression;
mod context;
mod error;
mod explain;
pub mod frame;
pub mod head;
mod instance;
#[cfg(all(test, shuttle))]
mod interleavings;
mod local;
mod message;
mod metadata;
mod method;
mod payload;
mod registry;
mod reply;
mod service;
mod service_id;
mod status;
#[doc(hidden)]
pub mod sync;
pub mod transport;

use std::pin::Pin;

pub use call::{Call, CallFuture, Explained};
pub use caller::{CallOptions, Caller, Request};
pub use codec::{Codec, CodecError};
pub use compression::Compression;
pub use context::{Context, Peer, Scoped};
pub use error::{CallError, Delivery, Error, Phase};
pub use explain::{Attempt, Candidate, Explain, Explanation};
pub use instance::Instance;
pub use local::{Local, LocalCall};
pub use message::Message;
pub use metadata::Metadata;
pub use method::{Method, MethodInfo};
pub use payload::Payload;
pub use registry::{Addresses, Discovery, Registry};
pub use reply::Reply;
pub use rpc_macros::rpc_service;
pub use service::{Responder, Service, WireSink};
pub use service_id::ServiceId;
pub use status::{Code, Status};

/// A future behind a pointer, where a trait must be usable as `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
