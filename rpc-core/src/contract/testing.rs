//! Callers for tests of programs that make calls: they send nothing, and answer as a test determines.
//!
//! | task | item |
//! |---|---|
//! | let every call fail | [`failing`] |
//! | answer each method as a script states | [`scripted`], [`Scripted::on`], [`Answer`] |
//! | check what the program has called | [`Scripted::calls`] |
//! | call a real service within the process | [`Local`](crate::Local) |
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//!
//! use rpc_core::{
//!     Caller, Code, Error, Status, rpc_service,
//!     testing::{self, Answer},
//! };
//!
//! #[rpc_service(name = "shop.Stock", version = "1.0")]
//! trait Stock {
//!     async fn count(&self, item: String) -> Result<u32, Status>;
//! }
//!
//! /// The program under test.
//! async fn is_offered(stock: &StockClient<impl Caller>, item: &str) -> Result<bool, Error> {
//!     match stock.count(item.into()).await {
//!         Ok(count) => Ok(count > 0),
//!         Err(error) if error.code() == Code::NotFound => Ok(false),
//!         Err(error) => Err(error),
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let script = testing::scripted()
//!     .on("shop.Stock:1.0/count", Answer::result(3))
//!     .on("shop.Stock:1.0/count", Answer::status(Status::not_found("no such item")))
//!     .on("shop.Stock:1.0/count", Answer::never());
//! let stock = StockClient::new(script.clone());
//! assert!(is_offered(&stock, "teapot").await.unwrap());
//! assert!(!is_offered(&stock, "kettle").await.unwrap());
//! assert!(stock.count("cup".into()).timeout(Duration::from_millis(10)).await.unwrap_err().is_timeout());
//!
//! let calls = script.calls();
//! assert_eq!(calls[0].method.name(), "count");
//! let (item,): (String,) = calls[0].arguments.clone().decode().unwrap();
//! assert_eq!(item, "teapot");
//!
//! let unreachable = StockClient::new(testing::failing(Code::Unavailable));
//! assert!(is_offered(&unreachable, "teapot").await.unwrap_err().is_retryable());
//! # }
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::local::LocalCall;
use crate::{
    CallOptions, Caller, Code, Codec, CodecError, Encode, Error, Metadata, MethodInfo, Payload, Phase, Reply, Request,
    Status, WriteBuffer,
};

/// Returns a caller whose calls fail with `code`, as if no provider was reachable.
///
/// The handler of such a call did not execute. [`Scripted::otherwise`] sets any other error.
pub fn failing(code: Code) -> Scripted {
    let error = move || Error::not_executed(code, "a failing caller sends no calls").with_phase(Phase::Resolve);
    scripted().otherwise(Answer::error(error))
}

/// Returns a caller without answers: [`Scripted::on`] and [`Scripted::otherwise`] add them.
pub fn scripted() -> Scripted {
    Scripted::default()
}

/// A caller that answers by a script and records the calls. Clones share both.
#[derive(Clone, Debug, Default)]
pub struct Scripted(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    answers: BTreeMap<String, VecDeque<Answer>>,
    otherwise: Option<Answer>,
    calls: Vec<SentCall>,
}

/// The answer to a call of a [`Scripted`].
#[derive(Clone)]
pub struct Answer {
    kind: Kind,
    metadata: Metadata,
}

#[derive(Clone)]
enum Kind {
    Result(Arc<dyn Encode + Send + Sync>),
    ServiceError(Arc<dyn Encode + Send + Sync>),
    Error(Arc<dyn Fn() -> Error + Send + Sync>),
    Never,
}

/// A call that a program made through a [`Scripted`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SentCall {
    /// The called method.
    pub method: &'static MethodInfo,
    /// The options of the call.
    pub options: CallOptions,
    /// The arguments in the codec of the call: a tuple of the parameters in bincode, the default, and a map by their names
    /// in JSON and MessagePack.
    pub arguments: Payload,
}

impl Scripted {
    /// The number of calls that are recorded. Further calls are answered, and not recorded.
    pub const MAX_RECORDED: usize = 10_000;

    /// Adds an answer for calls of `route`, such as `shop.Stock:1.0/count`.
    ///
    /// Several answers of one route are given in this order; the last one repeats.
    #[must_use]
    pub fn on(self, route: &str, answer: Answer) -> Self {
        self.lock().answers.entry(route.to_owned()).or_default().push_back(answer);
        self
    }

    /// Sets the answer for calls of all other routes.
    ///
    /// Without it, they fail with `Unimplemented`, and one-way calls succeed.
    #[must_use]
    pub fn otherwise(self, answer: Answer) -> Self {
        self.lock().otherwise = Some(answer);
        self
    }

    /// Returns the calls that were made, in their order.
    pub fn calls(&self) -> Vec<SentCall> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    /// Answers with the result of the method.
    pub fn result(value: impl Serialize + Send + Sync + 'static) -> Self {
        Self::new(Kind::Result(Arc::new(value)))
    }

    /// Answers with the service's own error.
    pub fn service_error(error: impl Serialize + Send + Sync + 'static) -> Self {
        Self::new(Kind::ServiceError(Arc::new(error)))
    }

    /// Answers with a status, as a handler does.
    pub fn status(status: Status) -> Self {
        Self::error(move || Error::from_status(status.clone()))
    }

    /// Lets the call fail with the error that `error` returns.
    pub fn error(error: impl Fn() -> Error + Send + Sync + 'static) -> Self {
        Self::new(Kind::Error(Arc::new(error)))
    }

    /// Does not answer, so that the call ends at its deadline.
    pub fn never() -> Self {
        Self::new(Kind::Never)
    }

    /// Sets the metadata of the answer.
    #[must_use]
    pub fn with_metadata(self, metadata: Metadata) -> Self {
        Self { metadata, ..self }
    }

    fn new(kind: Kind) -> Self {
        Self { kind, metadata: Metadata::default() }
    }

    async fn into_reply(self, codec: Codec, deadline: Instant) -> Result<Reply, Error> {
        let Self { kind, metadata } = self;
        let (is_application_error, value) = match kind {
            Kind::Result(value) => (false, value),
            Kind::ServiceError(error) => (true, error),
            Kind::Error(error) if metadata.is_empty() => return Err(error()),
            Kind::Error(error) => return Err(error().with_metadata(metadata)),
            Kind::Never => {
                sleep_until(deadline).await;
                return Err(Error::unknown(Code::DeadlineExceeded, "the deadline passed").with_phase(Phase::Wait));
            }
        };
        let payload = encoded(&*value, codec).map_err(|error| {
            Error::answered(Code::Internal, "the scripted answer does not encode").with_source(error)
        })?;
        Ok(Reply { is_application_error, metadata, payload, peer: None, items: None })
    }
}

impl Caller for Scripted {
    type Calling<A: Encode + Send + 'static> = LocalCall;

    fn call<A: Encode + Send + 'static>(&self, request: Request<A>) -> LocalCall {
        let Request { method, arguments, options } = request;
        let codec = options.codec.or(method.default_codec()).unwrap_or_default();
        let (encoded, this) = (encoded(&arguments, codec), self.clone());
        LocalCall(Box::pin(async move {
            let invalid = |code, message: String| Error::not_executed(code, message).with_phase(Phase::Send);
            if let Some(status) = &options.invalid {
                return Err(invalid(status.code(), status.message().to_owned()));
            }
            let arguments = encoded.map_err(|error| {
                invalid(Code::InvalidArgument, "the arguments do not encode".into()).with_source(error)
            })?;
            let deadline = options.deadline_from(Instant::now(), method, this.default_timeout());
            if deadline <= Instant::now() {
                return Err(invalid(Code::DeadlineExceeded, "the deadline passed before the call".into()));
            }
            let answer = this.lock().handle_call(SentCall { method, options, arguments });
            answer.into_reply(codec, deadline).await
        }))
    }
}

impl Script {
    /// Records a call and returns its answer.
    fn handle_call(&mut self, call: SentCall) -> Answer {
        let method = call.method;
        if self.calls.len() < Scripted::MAX_RECORDED {
            self.calls.push(call);
        }
        match self.answers.get_mut(method.route()) {
            Some(answers) if answers.len() > 1 => answers.pop_front(),
            Some(answers) => answers.front().cloned(),
            None => self.otherwise.clone(),
        }
        .unwrap_or_else(|| self.unscripted(method))
    }

    fn unscripted(&self, method: &MethodInfo) -> Answer {
        if method.is_one_way() {
            return Answer::result(());
        }
        let routes: Vec<_> = self.answers.keys().map(String::as_str).collect();
        let message = format!("the script has no answer for {}, it has {}", method.route(), routes.join(", "));
        Answer::error(move || Error::not_executed(Code::Unimplemented, message.clone()))
    }
}

fn encoded(value: &dyn Encode, codec: Codec) -> Result<Payload, CodecError> {
    let mut out = WriteBuffer::new();
    value.encode(codec, &mut out)?;
    Ok(Payload::plain(codec, out.into_bytes()))
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Result(_) => "result",
            Kind::ServiceError(_) => "service error",
            Kind::Error(_) => "error",
            Kind::Never => "never",
        };
        f.debug_struct("Answer").field("kind", &kind).field("metadata", &self.metadata).finish()
    }
}
