//! The words and seams of msnb, and the transport that both ends share. A contract crate depends on this crate alone.
//!
//! | question | item |
//! |---|---|
//! | how is a contract written? | [`rpc_service`] |
//! | what can be asked for, for one call? | [`Call`] |
//! | what does a handler know of its call? | [`Context`] |
//! | why did a call fail, and may it have run? | [`Error`], [`CallError`], [`Delivery`], [`Code`] |
//! | what happened to a call on its way? | [`Explanation`] |
//! | how are values serialized and compressed? | [`Codec`], [`Compression`] |
//! | how do long bytes pass without a copy? | [`uncopied`] |
//! | what does a registry do? | [`Registry`], [`Discovery`], [`Instance`], [`ServiceId`] |
//! | what sends calls, what takes them? | [`Caller`], [`Service`] |
//! | what stands around all calls? | [`layer`] |
//! | what is on the wire? | [`frame`], [`head`] |
//! | how do bytes become frames? | [`transport`] |
//! | how are connections encrypted? | [`tls`] |
//! | who calls, and how is that proved? | [`Identity`], [`Token`], [`Tokens`], [`proof`] |
//!
//! A call ends once: by its deadline at the latest, with its answer or with an [`Error`] that says whether it may have run.
//! Timeouts are [`Duration`](std::time::Duration)s of at most 49 days and travel in whole milliseconds, rounded up; sizes are in
//! bytes.
//!
//! # Errors
//!
//! The codes that msnb itself gives to calls; those of [`Code`] that are missing here come from [`Service`]s written by hand
//! only. What makes a server, a client or a registry says its errors there.
//!
//! | code | when |
//! |---|---|
//! | `Unavailable` | no provider takes calls, the connection was lost, the server refused before the handler ran |
//! | `DeadlineExceeded` | the deadline passed |
//! | `ResourceExhausted` | a frame, a payload, metadata or a number of calls is over its bound |
//! | `InvalidArgument` | the arguments or the metadata cannot be sent, or the callee does not understand the arguments |
//! | `Unimplemented` | the callee does not know the service, the method, the codec or the compression |
//! | `Internal` | the handler panicked or its result does not encode; the caller does not understand the answer |
//! | `FailedPrecondition` | a client without a registry was given no address |
//! | `Aborted` | a call that runs once was sent again, to a server that does not know whether it ran |
//! | `DataLoss` | the stored answer of a call that runs once is damaged |
//! | `Unauthenticated` | the server requires a token, and this client has none that it accepts |
//! | `PermissionDenied` | the caller is not on the method's list, see [`Identity`] |
//! | `Application` | the service's own error, which callers get as [`CallError::Service`] |
//! | `Cancelled` | told to a caller that gave the call up, and so to nobody |
//!
//! # Cancel safety
//!
//! Dropping a call's future gives the call up: the peer is told, and drops the handler's future. Whether the handler ran is then
//! unknown.
//!
//! # Examples
//!
//! A contract, and a call of it in this process; over a network, the proxy is made of a client of rpc-client instead.
//!
//! ```
//! use std::time::Duration;
//!
//! use rpc_core::{CallError, Context, Delivery, rpc_service};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Serialize, Deserialize)]
//! pub enum GreetError {
//!     EmptyName,
//! }
//!
//! #[rpc_service(name = "demo.Greeter", version = "1.0")]
//! pub trait Greeter {
//!     async fn hello(&self, name: String) -> Result<String, GreetError>;
//! }
//!
//! struct MyGreeter;
//!
//! impl Greeter for MyGreeter {
//!     async fn hello(&self, name: String) -> Result<String, GreetError> {
//!         if name.is_empty() {
//!             return Err(GreetError::EmptyName);
//!         }
//!         if name == "nobody" {
//!             std::future::pending::<()>().await; // dropped when the deadline passes
//!         }
//!         let context = Context::current().expect("a handler has a context");
//!         Ok(format!("{} {name}", context.metadata().get("greeting").unwrap_or("Hello")))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let greeter = GreeterClient::local(MyGreeter);
//! assert_eq!(greeter.hello("Bo".into()).metadata("greeting", "Hej").await.unwrap(), "Hej Bo");
//!
//! let error = greeter.hello(String::new()).await.unwrap_err();
//! assert!(matches!(error, CallError::Service(GreetError::EmptyName)));
//!
//! let error = greeter.hello("nobody".into()).timeout(Duration::from_millis(20)).await.unwrap_err();
//! let error = error.rpc().expect("the framework's error");
//! assert!(error.is_timeout());
//! assert_eq!(error.delivery(), Delivery::Unknown);
//! # }
//! ```

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
mod identity;
mod instance;
#[cfg(all(test, shuttle))]
mod interleavings;
pub mod layer;
mod local;
mod message;
mod metadata;
mod method;
mod payload;
pub mod proof;
mod registry;
mod reloaded;
mod reply;
mod service;
mod service_id;
mod setters;
mod status;
#[doc(hidden)]
pub mod sync;
#[cfg(feature = "tls")]
pub mod tls;
mod token;
mod token_bucket;
pub mod transport;
pub mod uncopied;
mod write_buffer;

use std::pin::Pin;

pub use call::{Call, CallFuture, Explained};
pub use caller::{CallOptions, Caller, Request};
pub use codec::{Codec, CodecError};
pub use compression::Compression;
pub use context::{Context, Peer, Scoped};
pub use error::{CallError, Delivery, Error, Phase};
pub use explain::{Attempt, Candidate, Explain, Explanation};
pub use identity::Identity;
pub use instance::Instance;
pub use local::{Local, LocalCall};
pub use message::Message;
pub use metadata::Metadata;
pub use method::{Method, MethodInfo, Once};
pub use payload::Payload;
pub use registry::{Addresses, Discovery, RegisterOutcome, Registry};
pub use reply::Reply;
pub use rpc_macros::rpc_service;
pub use service::{Responder, Service, StoredAnswer, WireSink};
pub use service_id::ServiceId;
pub use status::{Code, Status};
pub use token::{AcceptedTokens, Token, Tokens};
pub use token_bucket::TokenBucket;
pub use write_buffer::{Mark, WriteBuffer};

/// A future behind a pointer, where a trait must be usable as `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
