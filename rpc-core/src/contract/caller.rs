//! [`Caller`]: what can send a call; and [`Request`], the call to be sent.

use std::{net::SocketAddr, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use crate::{Codec, Compression, Context, Error, Explain, Metadata, MethodInfo, Reply, Status};

/// Sends calls: a client, or a service in this process.
pub trait Caller: Clone + Send + Sync + 'static {
    /// One call on its way. Dropping it gives the call up.
    type Calling<A: Serialize + Send + 'static>: Future<Output = Result<Reply, Error>> + Explain + Send + Unpin;

    /// Prepares a call; polling the future sends it.
    fn call<A: Serialize + Send + 'static>(&self, request: Request<A>) -> Self::Calling<A>;

    /// As [`call`](Self::call), by who makes no other call through this clone, which can then go with the call.
    fn into_call<A: Serialize + Send + 'static>(self, request: Request<A>) -> Self::Calling<A> {
        self.call(request)
    }

    /// The timeout of a call when neither its caller nor its method names one.
    fn default_timeout(&self) -> Duration {
        CallOptions::DEFAULT_TIMEOUT
    }
}

/// One call to be sent.
#[derive(Debug)]
pub struct Request<A> {
    /// Which method.
    pub method: &'static MethodInfo,
    /// The parameters by name.
    pub arguments: A,
    /// What the caller asked for.
    pub options: CallOptions,
}

/// What a caller may ask for, for one call.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CallOptions {
    /// The longest that the call may take; else the method's own, else the client's.
    pub timeout: Option<Duration>,
    /// A point in time by which the call ends whatever the timeout says; inside a handler, the handler's own deadline.
    pub deadline: Option<Instant>,
    /// Pairs for the handler.
    pub metadata: Metadata,
    /// How the arguments are serialized; else the client's.
    pub codec: Option<Codec>,
    /// How the arguments are compressed; else the client's.
    pub compression: Option<Compression>,
    /// The one provider to be called, instead of a choice.
    pub address: Option<SocketAddr>,
    /// A key for which the same provider is chosen as long as the providers stay the same.
    pub affinity: Option<u64>,
    /// Whether the call waits, to its deadline, for a provider that answers when there is none; else the client's.
    pub wait_for_ready: Option<bool>,
    /// Whether what happens to the call is written down.
    pub explain: bool,
    /// Why the call cannot be sent as it was asked for.
    pub invalid: Option<Status>,
}

impl CallOptions {
    /// The timeout of a call when neither its caller nor its method names one.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

    /// The options of a call made here: inside a handler, its deadline and trace.
    pub fn inherited() -> Self {
        let mut options = Self::default();
        if let Some(context) = Context::current() {
            options.deadline = context.deadline();
            for key in TRACE_KEYS {
                if let Some(value) = context.metadata().get_bytes(key) {
                    // What came in within the bounds goes out within them.
                    let _ = options.metadata.insert(key, value);
                }
            }
        }
        options
    }

    /// When a call that is sent now must end: the earlier of the deadline, and the caller's, the method's or the given
    /// timeout.
    pub fn deadline_from(&self, now: Instant, method: &MethodInfo, default: Duration) -> Instant {
        let timeout = self.timeout.or(method.default_timeout()).unwrap_or(default).min(FAR);
        let by_timeout = now + timeout;
        self.deadline.map_or(by_timeout, |deadline| deadline.min(by_timeout))
    }
}

/// W3C trace context, which calls made inside a handler carry on.
const TRACE_KEYS: [&str; 2] = ["traceparent", "tracestate"];

/// The wire cannot say more than 49 days, and a sum of times must not overflow.
const FAR: Duration = Duration::from_millis(u32::MAX as u64);
