//! Contracts, calls and services of msnb, and the transport that clients and servers share.
//!
//! A contract crate depends on this crate alone.
//!
//! | topic | item |
//! |---|---|
//! | contracts | [`rpc_service`] |
//! | the description of a contract as a value | [`descriptor`] |
//! | the service that describes the services of a server | [`reflection`] |
//! | the service that reports the counters of a server | [`admin`] |
//! | a call and its options | [`Call`] |
//! | streams of items as arguments and results | [`Streaming`], [`StreamSender`] |
//! | streams that continue at another provider | [`ResumableMethod`], [`HasCursor`] |
//! | the context of a handler | [`Context`] |
//! | failures of a call, and whether its handler may have executed | [`Error`], [`CallError`], [`Delivery`], [`Code`] |
//! | errors of a handler | [`Status`], [`HandlerError`], [`MethodError`] |
//! | the trace of a call: candidates and attempts | [`Explanation`] |
//! | serialization and compression | [`Codec`], [`Compression`] |
//! | zero-copy transfer of long `Bytes` | [`uncopied`] |
//! | optional fields that may be `null` | [`nullable`] |
//! | registration and discovery | [`Registry`], [`Discovery`], [`Instance`], [`ServiceId`] |
//! | rules of calls that operators change | [`RuleSource`] |
//! | sending and serving calls | [`Caller`], [`Service`] |
//! | a caller of any type, for programs that are not generic | [`DynCaller`] |
//! | callers that fail or follow a script, for tests | [`testing`] |
//! | middleware for all calls of a client or a server | [`layer`] |
//! | sources and limits of connections | [`transport`] |
//! | TLS | [`tls`] |
//! | authentication | [`Identity`], [`Token`], [`Tokens`], [`proof`] |
//!
//! A call ends exactly once, at its deadline at the latest: with its answer, or with an [`Error`] that states whether
//! the handler may have executed. Timeouts are [`Duration`](std::time::Duration)s of at most 49 days, sent in whole
//! milliseconds and rounded up. Sizes are in bytes.
//!
//! # Errors
//!
//! msnb gives calls the codes of this table. A handler may answer with any code, see [`Status`]; the error then has
//! [`Delivery::Answered`].
//! Constructors and builders of servers, clients and registries document their own errors.
//!
//! | code | cause |
//! |---|---|
//! | `Unavailable` | no provider accepts calls, the connection was lost, or the server rejected the call before its handler executed |
//! | `DeadlineExceeded` | the deadline passed |
//! | `ResourceExhausted` | a frame, a payload, metadata or a number of calls exceeds its limit |
//! | `InvalidArgument` | the arguments or the metadata cannot be sent, or the callee cannot decode the arguments |
//! | `Unimplemented` | the callee does not support the service, the method, the codec or the compression |
//! | `Internal` | the handler panicked, its result does not encode, or the caller cannot decode the answer |
//! | `FailedPrecondition` | a client without a registry was given no address |
//! | `Aborted` | a once call was sent again, to a server that has no record of whether its handler executed |
//! | `DataLoss` | the stored answer of a once call is damaged |
//! | `Unauthenticated` | the server requires a token, and accepts none that this client has |
//! | `PermissionDenied` | the method's access list does not contain the caller, see [`Identity`] |
//! | `Application` | the service's own error, which callers receive as [`CallError::Service`] |
//! | `Cancelled` | the caller cancelled the call; layers and metrics see this code, the caller does not |
//!
//! # Cancel safety
//!
//! Dropping a call's future cancels the call: the client notifies the peer, which drops the handler's future. Whether
//! the handler executed is then unknown.
//!
//! # Examples
//!
//! A contract, and calls of it within one process. To call over a network, create the proxy from a client of
//! rpc-client.
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
//!         if name == "slow" {
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
//! let error = greeter.hello("slow".into()).timeout(Duration::from_millis(20)).await.unwrap_err();
//! let error = error.rpc().expect("the framework's error");
//! assert!(error.is_timeout());
//! assert_eq!(error.delivery(), Delivery::Unknown);
//! # }
//! ```

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
mod contained;
#[cfg_attr(not(feature = "transport"), allow(dead_code, reason = "the transport uses the rest"))]
mod contract;
mod deadline;
// Shared by rpc-client and rpc-registry, and not part of the API.
#[cfg(feature = "transport")]
#[doc(hidden)]
pub mod files;
#[cfg(all(test, shuttle, feature = "transport"))]
mod interleavings;
#[cfg(feature = "transport")]
mod security;
mod setters;
mod stable_hash;
#[doc(hidden)]
pub mod sync;
mod token_bucket;
#[cfg(feature = "transport")]
pub mod transport;
#[cfg(feature = "transport")]
mod wire;

#[doc(hidden)]
pub use contract::StatusAnswer;
pub use contract::{
    Addresses, Attempt, BoxFuture, Call, CallError, CallOptions, Caller, Candidate, Code, Codec, CodecError,
    Compression, Context, Delivery, Discovery, DynArguments, DynCall, DynCaller, Encode, Error, Explain, Explained,
    Explanation, HandlerError, HasCursor, Hedging, Identity, Instance, Local, LocalCall, Mark, Metadata, Method,
    MethodError, MethodInfo, Once, OptionValues, Payload, Peer, Phase, RegisterOutcome, Registry, Reply, Request,
    Responder, Resumable, ResumableMethod, RuleDocument, RuleSource, Scoped, Service, ServiceClient, ServiceId, Status,
    StreamClosed, StreamSender, Streaming, TrySendError, WithResponseMetadata, WriteBuffer, admin, descriptor, layer,
    nullable, reflection, testing, uncopied,
};
// Shared by rpc-client and rpc-server, and not part of the API.
#[cfg(feature = "transport")]
pub(crate) use contract::AnswerTurn;
pub(crate) use contract::{AnswerSink, AnswerTarget, EncodedAnswer};
#[cfg(feature = "transport")]
pub(crate) use contract::{CalleeStreams, Sent};
#[doc(hidden)]
pub use contract::{
    CallerItems, CallerSource, Draining, EncodedPayload, ItemSource, PeerWork, PreparedCall, Received, ReceivedItems,
    ReplyItems,
};
// Shared by the crates of msnb, and not part of the API.
#[doc(hidden)]
pub use contained::contained;
#[doc(hidden)]
pub use deadline::deadline_after;
pub use rpc_macros::rpc_service;
#[cfg(feature = "tls")]
pub use security::tls;
#[cfg(feature = "transport")]
pub use security::{AcceptedTokens, ProvedToken, Token, Tokens, proof};
#[doc(hidden)]
pub use stable_hash::stable_hash;
pub use token_bucket::TokenBucket;
#[cfg(feature = "transport")]
pub use wire::StoredAnswer;
#[cfg(feature = "transport")]
pub(crate) use wire::{AnswerStore, answer};
// Shared by rpc-client and rpc-server, and not part of the API.
#[cfg(feature = "transport")]
#[doc(hidden)]
pub use security::Reloadable;
#[cfg(feature = "transport")]
#[doc(hidden)]
pub use wire::{Digests, Message, frame, head, settings};
