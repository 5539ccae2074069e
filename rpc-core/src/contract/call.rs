//! [`Call`]: a call that is being prepared, and [`CallFuture`], one that is on its way.

use std::{
    fmt,
    hash::{BuildHasher, Hash},
    net::SocketAddr,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use crate::{CallOptions, Caller, Codec, Compression, Explain, Explanation, Method, Request};

/// A call that is being prepared: options chain on it, `.await` sends it.
///
/// # Drop
///
/// Dropping the future gives the call up: the peer is told, and drops the handler's future.
#[must_use = "a call is sent when it is awaited"]
pub struct Call<C, M: Method> {
    caller: C,
    request: Request<M::Arguments>,
}

impl<C: Caller, M: Method> Call<C, M> {
    /// A call of `M` with these arguments through `caller`. Proxies call this.
    pub fn new(caller: C, arguments: M::Arguments) -> Self {
        Self { caller, request: Request { method: M::info(), arguments, options: CallOptions::inherited() } }
    }

    /// Sets the longest that the call may take, from `.await` to its end, retries included. At most 49 days.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request.options.timeout = Some(timeout);
        self
    }

    /// Adds a pair for the handler, which finds it in its context. Illegal keys and too many pairs fail the call with
    /// `InvalidArgument` or `ResourceExhausted` before it is sent.
    pub fn metadata(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        if let Err(status) = self.request.options.metadata.insert(key, value) {
            self.request.options.invalid.get_or_insert(status);
        }
        self
    }

    /// Sets how the arguments, and so the result, are serialized.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.request.options.codec = Some(codec);
        self
    }

    /// Sets how the arguments and the result are compressed, each if it is long enough and becomes smaller.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.request.options.compression = Some(compression);
        self
    }

    /// Sends calls with the same key to the same provider as long as the providers stay the same; when one comes or goes, only
    /// its share of the keys moves (rendezvous hashing, Thaler and Ravishankar, 1998).
    pub fn affinity(mut self, key: impl Hash) -> Self {
        // Without a random seed: clients in other processes must choose alike.
        self.request.options.affinity = Some(foldhash::quality::FixedState::default().hash_one(key));
        self
    }

    /// Sets whether the call waits, to its deadline, for a provider that answers when there is none, or fails at once.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.request.options.wait_for_ready = Some(wait);
        self
    }

    /// Awaiting it then gives, beside the outcome, what happened to the call on its way.
    pub fn explain(mut self) -> Explained<C, M> {
        self.request.options.explain = true;
        Explained { call: self.into_future() }
    }

    /// Calls the provider at `address`, whatever the registry says.
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.request.options.address = Some(address);
        self
    }
}

impl<C: Caller, M: Method> IntoFuture for Call<C, M> {
    type Output = M::Outcome;
    type IntoFuture = CallFuture<C, M>;

    fn into_future(self) -> CallFuture<C, M> {
        CallFuture { calling: self.caller.into_call(self.request) }
    }
}

/// A call on its way that tells afterwards what happened to it.
///
/// # Cancel safety
///
/// As [`CallFuture`].
#[must_use = "futures do nothing unless polled"]
pub struct Explained<C: Caller, M: Method> {
    call: CallFuture<C, M>,
}

impl<C: Caller, M: Method> Future for Explained<C, M> {
    type Output = (M::Outcome, Explanation);

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.call).poll(cx));
        Poll::Ready((outcome, self.call.calling.explanation()))
    }
}

impl<C: Caller, M: Method> fmt::Debug for Explained<C, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.call.fmt(f)
    }
}

impl<C, M: Method> fmt::Debug for Call<C, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("route", &self.request.method.route())
            .field("options", &self.request.options)
            .finish_non_exhaustive()
    }
}

/// A call on its way.
///
/// # Cancel safety
///
/// Dropping it gives the call up; whether the handler ran is then unknown.
#[must_use = "futures do nothing unless polled"]
pub struct CallFuture<C: Caller, M: Method> {
    calling: C::Calling<M::Arguments>,
}

impl<C: Caller, M: Method> Future for CallFuture<C, M> {
    type Output = M::Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<M::Outcome> {
        Pin::new(&mut self.calling).poll(cx).map(M::outcome)
    }
}

impl<C: Caller, M: Method> fmt::Debug for CallFuture<C, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallFuture").field("route", &M::info().route()).finish_non_exhaustive()
    }
}
