//! [`Caller`]: sends calls; [`Request`]: the call to send.

use std::{
    fmt,
    net::SocketAddr,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{baggage, layer::Progress, streaming::CallerItems};
use crate::{
    Codec, Compression, Context, Encode, Error, Explain, Hedging, Metadata, MethodInfo, Reply, ServiceId, Status,
    deadline_after,
};

/// Sends calls: a client, or a service in this process.
pub trait Caller: Clone + Send + Sync + 'static {
    /// A call in progress. Dropping it cancels the call.
    type Calling<A: Encode + Send + 'static>: Future<Output = Result<Reply, Error>> + Explain + Send + Unpin;

    /// Creates the future of a call. The first poll sends the call.
    fn call<A: Encode + Send + 'static>(&self, request: Request<A>) -> Self::Calling<A>;

    /// Creates the future of a call whose options are not final, if [`options_mut`](Self::options_mut) returns them.
    ///
    /// Such a call is not moved again when it is sent.
    #[doc(hidden)]
    fn prepare<A: Encode + Send + 'static>(self, request: Request<A>) -> PreparedCall<Self, A> {
        PreparedCall::Request(self, request)
    }

    /// Returns the options of a call that was prepared and not polled.
    #[doc(hidden)]
    fn options_mut<A: Encode + Send + 'static>(_: &mut Self::Calling<A>) -> Option<&mut CallOptions> {
        None
    }

    /// Returns the caller, the arguments and the options of a call that was prepared and not polled.
    #[doc(hidden)]
    fn parts<A: Encode + Clone + Send + 'static>(_: &Self::Calling<A>) -> Option<(Self, A, CallOptions)> {
        None
    }

    /// Returns the timeout of calls for which neither the call nor the method sets one.
    fn default_timeout(&self) -> Duration {
        CallOptions::DEFAULT_TIMEOUT
    }
}

/// A call that was not polled.
#[doc(hidden)]
pub enum PreparedCall<C: Caller, A: Encode + Send + 'static> {
    /// The future of the call.
    Calling(C::Calling<A>),
    /// The parts from which the first poll creates the future.
    Request(C, Request<A>),
}

/// A client of one service, which `#[rpc_service]` generates.
pub trait ServiceClient {
    /// The type through which it calls.
    type Caller: Caller;

    /// Returns the id of the service that it calls.
    fn service_id() -> &'static ServiceId;
}

/// A call to send.
#[derive(Debug)]
pub struct Request<A> {
    /// The method.
    pub method: &'static MethodInfo,
    /// The arguments by parameter name.
    pub arguments: A,
    /// The options of the call.
    pub options: CallOptions,
}

/// The options of one call. Dereferences to [`OptionValues`], whose fields are the options.
///
/// Most calls have default options only, which take no memory of their own.
#[derive(Clone, Default)]
pub struct CallOptions(Option<Box<OptionValues>>);

/// The values of [`CallOptions`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OptionValues {
    /// The limit on the call's duration. Defaults to the method's timeout, then to the client's.
    pub timeout: Option<Duration>,
    /// How long the stream of the callee may last after the acceptance of the call. Defaults to the method's.
    pub stream_timeout: Option<Duration>,
    /// The time at which the call ends even if its timeout is longer.
    ///
    /// Inside a handler, this is the handler's deadline.
    pub deadline: Option<Instant>,
    /// Metadata for the handler.
    pub metadata: Metadata,
    /// The codec of the arguments. Defaults to the client's.
    pub codec: Option<Codec>,
    /// The compression of the arguments. Defaults to the client's.
    pub compression: Option<Compression>,
    /// The provider to call, instead of one from the registry.
    pub address: Option<SocketAddr>,
    /// The hash of a key that selects the same provider while the set of providers is unchanged.
    pub affinity: Option<u64>,
    /// The tag of the providers that the call prefers.
    ///
    /// Inside a handler, this is the tag of the call that the handler serves.
    pub tag: Option<Arc<str>>,
    /// Whether the call fails if no provider with the tag accepts it.
    ///
    /// Otherwise it uses providers without a tag.
    pub forces_tag: bool,
    /// Whether the call waits for an available provider until its deadline.
    ///
    /// Defaults to the client's setting.
    pub wait_for_ready: Option<bool>,
    /// The attempts that may follow the first one, hedges included; at most [`MAX_RETRIES`](CallOptions::MAX_RETRIES).
    ///
    /// Defaults to the client's setting.
    pub retries: Option<u32>,
    /// When the client hedges the call. Defaults to the client's setting.
    pub hedging: Option<Hedging>,
    /// Whether the client records an [`Explanation`](crate::Explanation) of the call.
    pub explain: bool,
    /// The error of an invalid option, with which the call fails before it is sent.
    pub invalid: Option<Status>,
    /// The items that the call sends.
    #[doc(hidden)]
    pub items: Option<CallerItems>,
    /// The progress of the call through the layers of an outer caller.
    pub(crate) progress: Option<Arc<Progress>>,
}

impl Deref for CallOptions {
    type Target = OptionValues;

    #[inline]
    fn deref(&self) -> &OptionValues {
        self.0.as_deref().unwrap_or(&UNSET)
    }
}

impl DerefMut for CallOptions {
    fn deref_mut(&mut self) -> &mut OptionValues {
        self.0.get_or_insert_with(|| Box::new(OptionValues::UNSET))
    }
}

impl fmt::Debug for CallOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl OptionValues {
    const UNSET: Self = Self {
        timeout: None,
        stream_timeout: None,
        deadline: None,
        metadata: Metadata::EMPTY,
        codec: None,
        compression: None,
        address: None,
        affinity: None,
        tag: None,
        forces_tag: false,
        wait_for_ready: None,
        retries: None,
        hedging: None,
        explain: false,
        invalid: None,
        items: None,
        progress: None,
    };
}

/// The options of a call that sets none.
static UNSET: OptionValues = OptionValues::UNSET;

impl CallOptions {
    /// The timeout of calls for which neither the call, the method nor the client sets one.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

    /// The most attempts of a call after the first one.
    pub const MAX_RETRIES: u32 = 16;

    /// Returns the default options of a call.
    ///
    /// Inside a handler, they contain the handler's deadline, trace context and baggage.
    pub fn inherited() -> Self {
        let mut options = Self::default();
        if let Some(context) = Context::current() {
            options.deadline = context.deadline();
            options.tag = context.baggage(baggage::TAG).map(Arc::from);
            for (key, value) in context.metadata().iter().filter(|(key, _)| baggage::is_inherited(key)) {
                // Cannot fail: these entries satisfied the limits when they were received.
                let _ = options.metadata.insert(key, value);
            }
        }
        options
    }

    /// Sets the tag of the call, which the calls of its handler inherit.
    pub fn set_tag(&mut self, tag: &str) {
        self.tag = Some(tag.into());
        if let Err(status) = self.metadata.set(&baggage::metadata_key(baggage::TAG), tag) {
            self.invalid.get_or_insert(status);
        }
    }

    /// Returns how long the stream that `method` returns may last after the acceptance: the option, or that of the method.
    #[doc(hidden)]
    pub fn stream_timeout_of(&self, method: &MethodInfo) -> Option<Duration> {
        let timeout = self.stream_timeout.or(method.default_stream_timeout());
        timeout.filter(|_| method.is_returning_items()).map(|timeout| timeout.min(MAX_TIMEOUT))
    }

    /// Returns the deadline of a call that is sent at `now`.
    ///
    /// This is the earlier of the option `deadline`, and of `now` plus the timeout: that of the call, the method's, or
    /// `default`, in this order. For a call that has passed layers, the timeout starts when it reached the first one.
    pub fn deadline_from(&self, now: Instant, method: &MethodInfo, default: Duration) -> Instant {
        self.time_limit(now, method, default).0
    }

    /// Returns the deadline of a call that is sent at `now`, as [`deadline_from`](Self::deadline_from), and the time
    /// until then.
    #[doc(hidden)]
    #[inline]
    pub fn time_limit(&self, now: Instant, method: &MethodInfo, default: Duration) -> (Instant, Duration) {
        let timeout = self.timeout.or(method.default_timeout()).unwrap_or(default).min(MAX_TIMEOUT);
        // Most calls have neither, and their time needs no subtraction.
        if self.progress.is_none() && self.deadline.is_none() {
            return (deadline_after(now, timeout), timeout);
        }
        let started = self.progress.as_ref().map_or(now, |progress| progress.started());
        let by_timeout = deadline_after(started, timeout);
        let deadline = self.deadline.map_or(by_timeout, |deadline| deadline.min(by_timeout));
        (deadline, deadline.saturating_duration_since(now))
    }
}

/// The longest timeout, which is the longest in the wire format: 49 days.
const MAX_TIMEOUT: Duration = Duration::from_millis(u32::MAX as u64);
