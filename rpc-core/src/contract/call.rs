//! [`Call`]: a call of a method, before and after it is sent.

use std::{
    fmt, mem,
    net::SocketAddr,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use serde::Serialize;

use super::{
    baggage,
    resumable::{Resumable, ResumableMethod},
    streaming::CallerItems,
};
use crate::{
    CallOptions, Caller, Code, Codec, Compression, Error, Explain, Explanation, Hedging, Metadata, Method,
    PreparedCall, Reply, Request, Status, Streaming, stable_hash,
};

/// A call of a method. Its methods set options; its first poll, such as `.await`, sends it.
///
/// A call is a future, so `join!`, `select!`, `tokio::spawn` and `JoinSet::spawn` accept it. Options that are set after
/// the first poll have no effect.
///
/// # Cancel safety
///
/// Dropping a call that was sent cancels it: the client notifies the peer, which drops the handler's future. Whether
/// the handler executed is then unknown. A call that was not polled is not sent.
///
/// # Examples
///
/// ```
/// # use rpc_core::rpc_service;
/// # #[rpc_service(name = "demo.Greeter", version = "1.0")]
/// # trait Greeter {
/// #     async fn hello(&self, name: String) -> String;
/// # }
/// # struct MyGreeter;
/// # impl Greeter for MyGreeter {
/// #     async fn hello(&self, name: String) -> String { format!("Hello {name}") }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let greeter = GreeterClient::local(MyGreeter);
/// let (one, other) = tokio::join!(greeter.hello("Bo".into()), greeter.hello("Eve".into()));
/// assert_eq!((one.unwrap(), other.unwrap()), ("Hello Bo".into(), "Hello Eve".into()));
///
/// let task = tokio::spawn(greeter.hello("Bo".into()));
/// assert_eq!(task.await.unwrap().unwrap(), "Hello Bo");
/// # }
/// ```
#[must_use = "a call is sent when it is awaited"]
pub struct Call<C: Caller, M: Method>(
    /// `None` only while [`Caller::call`] executes, and after it has panicked.
    Option<PreparedCall<C, M::Arguments>>,
);

impl<C: Caller, M: Method> Call<C, M> {
    /// Creates a call of method `M` through `caller`. Generated proxies call this.
    pub fn new(caller: C, arguments: M::Arguments) -> Self {
        Self(Some(caller.prepare(Request { method: M::info(), arguments, options: CallOptions::inherited() })))
    }

    /// Sets the items that the call sends. Generated proxies call this.
    #[doc(hidden)]
    pub fn with_items<T: Serialize + Send + 'static>(self, items: Streaming<T>) -> Self {
        self.with_options(|options| options.items = Some(CallerItems::new(items)))
    }

    /// Limits the duration of the call, from its first poll to its end and including retries. At most 49 days.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with_options(|options| options.timeout = Some(timeout))
    }

    /// Limits the time for which the stream of the callee lasts, from the acceptance of the call. At most 49 days.
    ///
    /// Then the stream ends with `DeadlineExceeded` at both ends. Without a limit, it lasts until either end ends it. For
    /// methods that return no stream, the limit has no effect: [`timeout`](Self::timeout) limits the whole call. A stream
    /// that continues at another provider has the time anew.
    pub fn stream_timeout(self, timeout: Duration) -> Self {
        self.with_options(|options| options.stream_timeout = Some(timeout))
    }

    /// Adds a metadata entry, which the handler reads from its context.
    ///
    /// An invalid key fails the call with `InvalidArgument` before it is sent, and exceeding the limits of
    /// [`Metadata`](crate::Metadata) fails it with `ResourceExhausted`.
    pub fn metadata(self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.with_options(|options| {
            if let Err(status) = options.metadata.insert(key, value) {
                options.invalid.get_or_insert(status);
            }
        })
    }

    /// Sets a metadata entry that the calls of the handler inherit, and those of their handlers in turn.
    ///
    /// It is the entry `baggage-` followed by `key`, and counts towards the limits of metadata in each of these calls.
    /// Handlers read it with [`Context::baggage`](crate::Context::baggage). A service must not trust it more than the
    /// peer that sent it.
    pub fn baggage(self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.with_options(|options| {
            // Inherited entries with this key are replaced: otherwise each hop of a chain of calls would add one.
            if let Err(status) = options.metadata.set(&baggage::metadata_key(key), value) {
                options.invalid.get_or_insert(status);
            }
        })
    }

    /// Sets the codec of the arguments, and thereby of the result.
    pub fn codec(self, codec: Codec) -> Self {
        self.with_options(|options| options.codec = Some(codec))
    }

    /// Sets the compression of the arguments and the result.
    ///
    /// Each is compressed if it is long enough and becomes shorter.
    pub fn compression(self, compression: Compression) -> Self {
        self.with_options(|options| options.compression = Some(compression))
    }

    /// Routes calls with the same key to the same provider while the set of providers is unchanged.
    ///
    /// When a provider joins or leaves, only its share of the keys moves (rendezvous hashing, Thaler and Ravishankar,
    /// 1998). Clients of all versions and builds agree on the provider of a key: the client hashes the bincode encoding
    /// of the key with FNV-1a, so `7_u32` and `7_u64` are different keys.
    ///
    /// A key that bincode cannot represent fails the call with `InvalidArgument` before it is sent.
    pub fn affinity(self, key: impl Serialize) -> Self {
        let mut bytes = BytesMut::new();
        let encoded = Codec::Bincode.encode(&key, &mut bytes);
        self.with_options(|options| match encoded {
            Ok(()) => options.affinity = Some(stable_hash(&bytes)),
            Err(error) => {
                let message = format!("the affinity key does not encode: {error}");
                options.invalid.get_or_insert(Status::new(Code::InvalidArgument, message));
            }
        })
    }

    /// Prefers the providers with this tag, such as those of a new version that only some calls try.
    ///
    /// If none of them accepts the call, it uses providers without a tag; a call without a tag never uses tagged ones. The
    /// calls of the handler inherit the tag, as [`baggage`](Self::baggage), and those of their handlers in turn.
    pub fn tag(self, tag: &str) -> Self {
        self.with_options(|options| options.set_tag(tag))
    }

    /// As [`tag`](Self::tag), but the call fails if no provider with the tag accepts it.
    ///
    /// The calls of the handler inherit the tag as a preference.
    pub fn force_tag(self, tag: &str) -> Self {
        self.tag(tag).with_options(|options| options.forces_tag = true)
    }

    /// Sets whether the call waits for an available provider if there is none.
    ///
    /// With `true`, the call waits until its deadline. With `false`, it fails at once.
    pub fn wait_for_ready(self, wait: bool) -> Self {
        self.with_options(|options| options.wait_for_ready = Some(wait))
    }

    /// Sets the number of attempts that may follow the first one, retries and hedges together; at most 16.
    ///
    /// It does not change which failures are retried: a call that may have executed is retried only if its method is
    /// idempotent or a once call.
    pub fn retries(self, retries: u32) -> Self {
        self.with_options(|options| options.retries = Some(retries.min(CallOptions::MAX_RETRIES)))
    }

    /// Sets whether the client hedges the call: sends it to another provider too while the first may still answer.
    ///
    /// With `true`, the second attempt starts after a third of the time that the call has left. [`Hedging`] describes
    /// the methods to which this applies.
    pub fn hedge(self, hedge: bool) -> Self {
        self.with_options(|options| options.hedging = Some(if hedge { Hedging::Third } else { Hedging::Never }))
    }

    /// Sets the time after which the client hedges the call, as [`hedge`](Self::hedge) describes.
    pub fn hedge_after(self, delay: Duration) -> Self {
        self.with_options(|options| options.hedging = Some(Hedging::After(delay)))
    }

    /// Calls the provider at `address` instead of one from the registry.
    pub fn address(self, address: SocketAddr) -> Self {
        self.with_options(|options| options.address = Some(address))
    }

    /// Returns a future that resolves to the outcome and an [`Explanation`] of the call.
    pub fn explain(self) -> Explained<C, M> {
        Explained { call: self.with_options(|options| options.explain = true) }
    }

    /// Returns a future that resolves to the outcome and the metadata of the answer.
    ///
    /// The handler adds it with [`Context::insert_response_metadata`](crate::Context::insert_response_metadata). It is
    /// empty if the call ended without an answer of the server.
    pub fn with_response_metadata(self) -> WithResponseMetadata<C, M> {
        WithResponseMetadata { call: self }
    }

    /// Returns a future that resolves to the outcome, with a stream that continues at another provider when its own is lost
    /// or drains. [`ResumableMethod`] describes it. Options must be set before.
    ///
    /// A call that was polled does not continue its stream.
    pub fn resumable(self) -> Resumable<C, M>
    where
        M: ResumableMethod,
    {
        let parts = match &self.0 {
            Some(PreparedCall::Request(caller, Request { arguments, options, .. })) => {
                Some((caller.clone(), arguments.clone(), options.clone()))
            }
            Some(PreparedCall::Calling(calling)) => C::parts(calling),
            None => None,
        };
        Resumable::new(self, parts)
    }

    fn with_options(mut self, set: impl FnOnce(&mut CallOptions)) -> Self {
        let options = match &mut self.0 {
            Some(PreparedCall::Request(_, request)) => Some(&mut request.options),
            Some(PreparedCall::Calling(calling)) => C::options_mut(calling),
            None => None,
        };
        options.map(set);
        self
    }

    /// Sends the call if this is the first poll, and polls for its reply.
    fn poll_reply(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Reply, Error>> {
        if let Some(PreparedCall::Request(..)) = self.0
            && let Some(PreparedCall::Request(caller, request)) = self.0.take()
        {
            self.0 = Some(PreparedCall::Calling(caller.call(request)));
        }
        match &mut self.0 {
            Some(PreparedCall::Calling(calling)) => Pin::new(calling).poll(cx),
            _ => Poll::Ready(Err(Error::unknown(Code::Internal, "call polled after a panic"))),
        }
    }
}

impl<C: Caller, M: Method> Future for Call<C, M> {
    type Output = M::Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<M::Outcome> {
        self.poll_reply(cx).map(M::outcome)
    }
}

/// Neither the arguments nor the caller are ever pinned, and the future of a sent call is `Unpin`.
impl<C: Caller, M: Method> Unpin for Call<C, M> {}

impl<C: Caller, M: Method> fmt::Debug for Call<C, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("route", &M::info().route()).finish_non_exhaustive()
    }
}

/// A call whose output includes an [`Explanation`]. Created by [`Call::explain`].
///
/// # Cancel safety
///
/// As [`Call`].
#[must_use = "futures do nothing unless polled"]
pub struct Explained<C: Caller, M: Method> {
    call: Call<C, M>,
}

impl<C: Caller, M: Method> Future for Explained<C, M> {
    type Output = (M::Outcome, Explanation);

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let reply = ready!(self.call.poll_reply(cx));
        let explanation = match &self.call.0 {
            Some(PreparedCall::Calling(calling)) => calling.explanation(),
            Some(PreparedCall::Request(..)) | None => Explanation::default(),
        };
        Poll::Ready((M::outcome(reply), explanation))
    }
}

impl<C: Caller, M: Method> fmt::Debug for Explained<C, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.call.fmt(f)
    }
}

/// A call whose output includes the metadata of the answer. Created by [`Call::with_response_metadata`].
///
/// # Cancel safety
///
/// As [`Call`].
#[must_use = "futures do nothing unless polled"]
pub struct WithResponseMetadata<C: Caller, M: Method> {
    call: Call<C, M>,
}

impl<C: Caller, M: Method> Future for WithResponseMetadata<C, M> {
    type Output = (M::Outcome, Metadata);

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut reply = ready!(self.call.poll_reply(cx));
        let metadata = match &mut reply {
            // A copy, because received metadata shares the memory of its frame.
            Ok(reply) => mem::take(&mut reply.metadata).copied(),
            Err(error) => error.metadata().clone(),
        };
        Poll::Ready((M::outcome(reply), metadata))
    }
}

impl<C: Caller, M: Method> fmt::Debug for WithResponseMetadata<C, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.call.fmt(f)
    }
}
