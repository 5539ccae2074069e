//! [`Resumable`]: a call whose stream continues at another provider.

use std::{
    fmt,
    hash::{BuildHasher, Hasher},
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use serde::de::DeserializeOwned;
use tokio::time::{Sleep, sleep};

use super::streaming::ReceivedStream;
use crate::{BoxFuture, CallOptions, Caller, Code, Error, Method, MethodError, Request, Streaming};

/// An item of a stream that can continue behind it.
pub trait HasCursor {
    /// The position of an item in its stream.
    ///
    /// Providers must agree on it: the item behind a cursor is the same at each of them.
    type Cursor: Clone + fmt::Debug + Send + 'static;

    /// Returns the position of this item.
    fn cursor(&self) -> Self::Cursor;
}

/// A method whose stream continues at another provider when its own is lost or drains.
///
/// `#[rpc_service]` implements it for a method that returns a stream and has a parameter `#[rpc(cursor)]`, an `Option` of
/// the cursor of its items. With `None` the provider sends the stream from its start, and with a cursor the items behind it.
///
/// [`Call::resumable`](crate::Call::resumable) then calls the method again, with the cursor of the last item that was read:
///
/// | event | consequence |
/// |---|---|
/// | the connection is lost, or the provider ends the stream with `Unavailable` | the stream continues at any provider |
/// | the provider drains | the stream continues at another provider; until one accepts the call, it is read from the first |
/// | the stream cannot be opened because of `Unavailable`, `DeadlineExceeded`, or `ResourceExhausted` with a retry-after | another attempt follows after 4 ms, 8 ms, and so on, up to 8.2 s; half of each pause is random |
/// | 13 attempts in succession fail after a loss, or one fails for another reason | the stream ends with the error, whose message contains the cursor |
/// | the provider answers an attempt with an error of the service | the stream ends with `FailedPrecondition` |
///
/// A reader therefore receives each item exactly once and in order, or an error. If the stream is lost before its first item
/// was read, it starts again with the cursor of the call.
///
/// # Examples
///
/// ```
/// use rpc_core::{Error, HasCursor, Status, Streaming, rpc_service};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Tick {
///     number: u64,
/// }
///
/// impl HasCursor for Tick {
///     type Cursor = u64;
///
///     fn cursor(&self) -> u64 {
///         self.number
///     }
/// }
///
/// #[rpc_service(name = "demo.Clock", version = "1.0")]
/// trait Clock {
///     async fn ticks(&self, #[rpc(cursor)] after: Option<u64>) -> Streaming<Tick>;
/// }
///
/// struct MyClock;
///
/// impl Clock for MyClock {
///     async fn ticks(&self, after: Option<u64>) -> Streaming<Tick> {
///         let first = after.map_or(0, |after| after + 1);
///         (first..3).map(|number| Tick { number }).collect()
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let clock = ClockClient::local(MyClock);
/// let mut ticks = clock.ticks(Some(0)).resumable().await?;
/// assert_eq!(ticks.next().await.transpose()?.map(|tick| tick.number), Some(1));
/// # Ok(()) }
/// ```
pub trait ResumableMethod: Method<Arguments: Clone> {
    /// The items of the stream.
    type Item: HasCursor + DeserializeOwned + Send + 'static;
    /// The error of the stream.
    type StreamError: MethodError + 'static;

    /// Sets the cursor behind which the stream starts.
    fn set_cursor(arguments: &mut Self::Arguments, cursor: <Self::Item as HasCursor>::Cursor);

    /// Replaces the stream in an outcome.
    fn map_stream(
        outcome: Self::Outcome,
        map: impl FnOnce(Streaming<Self::Item, Self::StreamError>) -> Streaming<Self::Item, Self::StreamError>,
    ) -> Self::Outcome;
}

/// A call whose stream continues at another provider. Created by [`Call::resumable`](crate::Call::resumable).
///
/// # Cancel safety
///
/// As [`Call`](crate::Call).
#[must_use = "a call is sent when it is awaited"]
pub struct Resumable<C: Caller, M: ResumableMethod> {
    call: BoxFuture<'static, M::Outcome>,
    parts: Option<(C, M::Arguments, CallOptions)>,
}

impl<C: Caller, M: ResumableMethod> Resumable<C, M> {
    pub(super) fn new(
        call: impl Future<Output = M::Outcome> + Send + 'static,
        parts: Option<(C, M::Arguments, CallOptions)>,
    ) -> Self {
        Self { call: Box::pin(call), parts }
    }
}

impl<C: Caller, M: ResumableMethod> Future for Resumable<C, M> {
    type Output = M::Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<M::Outcome> {
        let outcome = ready!(self.call.as_mut().poll(cx));
        let Some((caller, arguments, mut options)) = self.parts.take() else { return Poll::Ready(outcome) };
        // The deadline of a handler limits only the acceptance of its call.
        options.deadline = None;
        Poll::Ready(M::map_stream(outcome, |stream| match stream.into_received() {
            Ok(current) => Streaming::of_calls(Resumed::<C, M> {
                caller,
                arguments,
                options,
                current: Some(current),
                cursor: None,
                opening: None,
                pause: None,
                failures: 0,
                has_ended: false,
            }),
            Err(stream) => stream,
        }))
    }
}

/// Neither the arguments nor the caller are ever pinned.
impl<C: Caller, M: ResumableMethod> Unpin for Resumable<C, M> {}

impl<C: Caller, M: ResumableMethod> fmt::Debug for Resumable<C, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resumable").field("route", &M::info().route()).finish_non_exhaustive()
    }
}

/// A stream that continues at another provider.
struct Resumed<C: Caller, M: ResumableMethod> {
    caller: C,
    /// Those of the next attempt, with the cursor of the last item.
    arguments: M::Arguments,
    options: CallOptions,
    /// The stream that is read. `None` after it was lost.
    current: Option<ReceivedStream<M::Item>>,
    cursor: Option<<M::Item as HasCursor>::Cursor>,
    /// The call that opens the next stream. Until it ends, the current one is not read, so that no item is read twice.
    opening: Option<C::Calling<M::Arguments>>,
    /// The pause before the next attempt.
    pause: Option<Pin<Box<Sleep>>>,
    /// The number of attempts in succession that have failed.
    failures: u32,
    has_ended: bool,
}

type CallErrorOf<M> = <<M as ResumableMethod>::StreamError as MethodError>::CallError;

impl<C: Caller, M: ResumableMethod> Resumed<C, M> {
    fn open(&mut self) {
        let (method, arguments, mut options) = (M::info(), self.arguments.clone(), self.options.clone());
        if self.current.is_some() {
            // The current stream is read again at once if no other provider is ready.
            options.wait_for_ready = Some(false);
        }
        self.opening = Some(self.caller.call(Request { method, arguments, options }));
    }

    /// Handles a failed attempt. Returns the error if it ends the stream.
    fn handle_failure(&mut self, error: Error) -> Result<(), Error> {
        let is_temporary = match error.code() {
            Code::Unavailable | Code::DeadlineExceeded => true,
            Code::ResourceExhausted => error.retry_after().is_some(),
            _ => false,
        };
        // While the current stream is read, attempts have no limit but its end.
        self.failures = (self.failures + 1).min(MAX_FAILURES);
        if !is_temporary || self.current.is_none() && self.failures == MAX_FAILURES {
            return Err(self.with_position(error));
        }
        let longest = Duration::from_millis(2 << self.failures);
        let random = std::hash::RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        let pause = longest / 2 + (longest / 2).mul_f64(random);
        self.pause = Some(Box::pin(sleep(pause.max(error.retry_after().unwrap_or_default()))));
        Ok(())
    }

    /// Handles the loss of the current stream. Returns the error if it ends the stream.
    fn handle_loss(&mut self, error: Error) -> Result<(), Error> {
        if error.code() != Code::Unavailable {
            return Err(self.with_position(error));
        }
        self.current = None;
        self.pause = None;
        self.failures = 0;
        Ok(())
    }

    fn with_position(&self, error: Error) -> Error {
        match &self.cursor {
            Some(cursor) => error.with_detail(&format!("the stream was read up to the cursor {cursor:?}")),
            None => error.with_detail("no item of the stream was read"),
        }
    }

    /// Returns the next item; `None` at the regular end.
    fn poll_item(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Result<M::Item, CallErrorOf<M>>>> {
        loop {
            if let Some(opening) = &mut self.opening {
                let opened = ready!(Pin::new(opening).poll(cx));
                self.opening = None;
                match opened {
                    Ok(reply) if reply.is_application_error => {
                        let message =
                            "the provider has answered the continuation of the stream with an error of the service";
                        Err(self.with_position(Error::answered(Code::FailedPrecondition, message)))?;
                    }
                    Ok(reply) => {
                        self.current = Some(ReceivedStream::of_reply(reply, M::info())?);
                        self.failures = 0;
                    }
                    Err(error) => self.handle_failure(error)?,
                }
            }
            if let Some(pause) = &mut self.pause {
                match pause.as_mut().poll(cx) {
                    Poll::Ready(()) => {
                        self.pause = None;
                        self.open();
                        continue;
                    }
                    Poll::Pending if self.current.is_none() => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
            let Some(current) = self.current.as_mut().filter(|current| self.pause.is_some() || !current.is_draining())
            else {
                self.open();
                continue;
            };
            match current.poll_item(cx) {
                Poll::Ready(Ok(item)) => {
                    let cursor = item.cursor();
                    M::set_cursor(&mut self.arguments, cursor.clone());
                    self.cursor = Some(cursor);
                    return Poll::Ready(Some(Ok(item)));
                }
                Poll::Ready(Err(Ok(reply))) if reply.is_application_error => {
                    return Poll::Ready(Some(Err(M::StreamError::decode(reply))));
                }
                Poll::Ready(Err(Ok(_))) => return Poll::Ready(None),
                Poll::Ready(Err(Err(error))) => self.handle_loss(error)?,
                // The drain may have begun during the poll.
                Poll::Pending if self.pause.is_none() && current.is_draining() => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<C: Caller, M: ResumableMethod> Stream for Resumed<C, M> {
    type Item = Result<M::Item, CallErrorOf<M>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let item = ready!(self.poll_item(cx));
        self.has_ended = !matches!(item, Some(Ok(_)));
        if self.has_ended {
            // A call that is in flight is cancelled.
            (self.current, self.opening, self.pause) = (None, None, None);
        }
        Poll::Ready(item)
    }
}

/// Neither the arguments nor the caller are ever pinned.
impl<C: Caller, M: ResumableMethod> Unpin for Resumed<C, M> {}

/// The number of attempts in succession that fail before a stream ends. The pauses are those of a client's connections.
const MAX_FAILURES: u32 = 13;
