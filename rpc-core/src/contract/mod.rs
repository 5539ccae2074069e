//! Calls and services, their values and their outcomes: the modules that a contract crate needs.
//!
//! They do not refer to connections, TLS or tokens.
//!
//! | topic | module |
//! |---|---|
//! | a call, its options and its cancellation | `call`, `caller`, `hedging` |
//! | a caller of any type | `dyn_caller` |
//! | the methods of a contract | `method` |
//! | the description of a contract | `descriptor` |
//! | the services that describe a server and report its counters | `reflection`, `admin` |
//! | services and their answers | `service`, `responder`, `answer_sink` |
//! | a handler's context, its peer and the peer's identity | `context`, `peer`, `identity` |
//! | metadata of a call, and the entries that its handler's calls inherit | `metadata`, `baggage` |
//! | outcomes | `status`, `status_answer`, `error`, `reply` |
//! | the errors of methods | `method_error` |
//! | the trace of a call | `explain` |
//! | calls within one process | `local` |
//! | callers for tests | `testing` |
//! | arguments and results that consist of many values | `streaming`, `resumable` |
//! | values to payloads and back | `encoding` |
//! | middleware | `layer` |
//! | registries | `discovery` |

pub mod admin;
mod answer_sink;
mod baggage;
mod boxed;
mod call;
mod caller;
mod context;
pub mod descriptor;
mod discovery;
mod dyn_caller;
mod encoding;
mod error;
mod explain;
mod hedging;
mod identity;
pub mod layer;
mod local;
mod metadata;
mod method;
mod method_error;
mod peer;
pub mod reflection;
mod reply;
mod responder;
mod resumable;
mod service;
mod status;
mod status_answer;
mod streaming;
pub mod testing;

#[cfg(feature = "transport")]
pub(crate) use answer_sink::AnswerTurn;
pub(crate) use answer_sink::{AnswerSink, AnswerTarget, EncodedAnswer};
pub use boxed::BoxFuture;
pub use call::{Call, Explained, WithResponseMetadata};
pub use caller::{CallOptions, Caller, OptionValues, PreparedCall, Request, ServiceClient};
pub use context::{Context, Scoped};
pub use discovery::{Addresses, Discovery, Instance, RegisterOutcome, Registry, RuleDocument, RuleSource, ServiceId};
pub use dyn_caller::{DynArguments, DynCall, DynCaller};
pub use encoding::{
    Codec, CodecError, Compression, Encode, EncodedPayload, Mark, Payload, PeerWork, WriteBuffer, any_uncopied,
    nullable, uncopied,
};
#[cfg(feature = "transport")]
pub(crate) use encoding::{LONG, offload};
pub use error::{CallError, Delivery, Error, Phase};
pub use explain::{Attempt, Candidate, Explain, Explanation};
pub use hedging::Hedging;
pub use identity::Identity;
pub use local::{Local, LocalCall};
pub use metadata::Metadata;
pub use method::{Method, MethodInfo, Once};
pub use method_error::{HandlerError, MethodError};
pub use peer::{Draining, Peer};
pub use reply::{Received, ReceivedItems, Reply, ReplyItems};
pub use responder::Responder;
pub use resumable::{HasCursor, Resumable, ResumableMethod};
pub use service::Service;
pub use status::{Code, Status};
pub use status_answer::StatusAnswer;
#[cfg(feature = "transport")]
pub(crate) use streaming::{CalleeStreams, Sent};
pub use streaming::{CallerItems, CallerSource, ItemSource, StreamClosed, StreamSender, Streaming, TrySendError};
