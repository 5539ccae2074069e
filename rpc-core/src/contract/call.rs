//! [`Call`]: a call before it is sent; [`CallFuture`]: a call in progress.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher as _},
    net::SocketAddr,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use crate::{CallOptions, Caller, Codec, Compression, Explain, Explanation, Method, Request};

/// A call before it is sent. Its methods set options; `.await` sends it.
///
/// # Drop
///
/// Dropping the future of a call that was sent cancels the call: the client notifies the peer, which drops the
/// handler's future.
#[must_use = "a call is sent when it is awaited"]
pub struct Call<C, M: Method> {
    caller: C,
    request: Request<M::Arguments>,
}

impl<C: Caller, M: Method> Call<C, M> {
    /// Creates a call of method `M` through `caller`. Generated proxies call this.
    pub fn new(caller: C, arguments: M::Arguments) -> Self {
        Self { caller, request: Request { method: M::info(), arguments, options: CallOptions::inherited() } }
    }

    /// Limits the duration of the call, from `.await` to its end and including retries. At most 49 days.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request.options.timeout = Some(timeout);
        self
    }

    /// Adds a metadata entry, which the handler reads from its context.
    ///
    /// An invalid key fails the call with `InvalidArgument` before it is sent, and exceeding the limits of
    /// [`Metadata`](crate::Metadata) fails it with `ResourceExhausted`.
    pub fn metadata(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        if let Err(status) = self.request.options.metadata.insert(key, value) {
            self.request.options.invalid.get_or_insert(status);
        }
        self
    }

    /// Sets the codec of the arguments, and thereby of the result.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.request.options.codec = Some(codec);
        self
    }

    /// Sets the compression of the arguments and the result.
    ///
    /// Each is compressed if it is long enough and becomes shorter.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.request.options.compression = Some(compression);
        self
    }

    /// Routes calls with the same key to the same provider while the set of providers is unchanged.
    ///
    /// When a provider joins or leaves, only its share of the keys moves (rendezvous hashing, Thaler and Ravishankar,
    /// 1998).
    pub fn affinity(mut self, key: impl Hash) -> Self {
        // Clients in all processes must choose the same provider. `DefaultHasher::new` has fixed keys; its algorithm
        // may change with the standard library, after which keys move once.
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        self.request.options.affinity = Some(hasher.finish());
        self
    }

    /// Sets whether the call waits for an available provider if there is none.
    ///
    /// With `true`, the call waits until its deadline. With `false`, it fails at once.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.request.options.wait_for_ready = Some(wait);
        self
    }

    /// Returns a future that resolves to the outcome and an [`Explanation`] of the call.
    pub fn explain(mut self) -> Explained<C, M> {
        self.request.options.explain = true;
        Explained { call: self.into_future() }
    }

    /// Calls the provider at `address` instead of one from the registry.
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

/// A call in progress whose output includes an [`Explanation`]. Created by [`Call::explain`].
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

/// A call in progress.
///
/// # Cancel safety
///
/// Dropping the future cancels the call; whether the handler executed is then unknown.
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
