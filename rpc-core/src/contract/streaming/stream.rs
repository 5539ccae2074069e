//! [`Streaming`]: a stream of items between caller and callee.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{self, Poll, ready},
};

use futures_core::Stream;
use serde::{Serialize, de::DeserializeOwned};
use tokio::task::coop;

use super::{
    CallerSource, ItemSource, StreamSender,
    sender::{self, Channel, Element},
};
use crate::{
    BoxFuture, Code, Codec, CodecError, Encode, Error, MethodError, MethodInfo, Payload, Phase, Received,
    ReceivedItems, Reply, Responder, Status, WriteBuffer,
    contract::{any_uncopied::Uncopied, reply::undecodable, responder::CalleeSource},
};

/// A stream of items: an argument or a result of a call that consists of many values.
///
/// One end creates it, with [`channel`](Self::channel), [`from_stream`](Self::from_stream),
/// [`from_iterator`](Self::from_iterator) or [`collect`](Iterator::collect), and passes it to a call or returns it from a handler. The other end receives the
/// items, in order and each once, with [`next`](Self::next) or as a [`Stream`].
///
/// `E` is the error with which the creator of the stream may end it. A reader receives
///
/// | element | meaning |
/// |---|---|
/// | `Some(Ok(item))` | an item |
/// | `None` | the creator has ended the stream: there are no more items |
/// | `Some(Err(error))`, then `None` | the stream ended early: by an error of its creator, or because the connection was lost, the call was cancelled or a limit was exceeded |
///
/// A stream that ends early therefore never looks like one that is complete. `error` is an [`Error`] for the default
/// `E`, and a [`CallError<E>`](crate::CallError) for a service's own error type.
///
/// # Flow control
///
/// The reader grants the sender credit in bytes, so that a slow reader holds up its own sender and nothing else. At most
/// [`stream_window`](crate::transport::TransportConfig::stream_window) bytes and one item wait to be read.
///
/// # Drop
///
/// Dropping a received result of a call cancels the call: the provider drops its stream. Dropping a received argument
/// means that the handler reads no more items; the caller's stream then waits until the call ends.
///
/// # Examples
///
/// ```
/// use rpc_core::{Error, Status, Streaming, rpc_service};
///
/// #[rpc_service(name = "demo.Counter", version = "1.0")]
/// trait Counter {
///     async fn count(&self, to: u32) -> Result<Streaming<u32>, Status>;
///     async fn sum(&self, numbers: Streaming<u32>) -> Result<u32, Status>;
/// }
///
/// struct MyCounter;
///
/// impl Counter for MyCounter {
///     async fn count(&self, to: u32) -> Result<Streaming<u32>, Status> {
///         Ok(Streaming::from_iterator(1..=to))
///     }
///
///     async fn sum(&self, mut numbers: Streaming<u32>) -> Result<u32, Status> {
///         let mut sum = 0;
///         while let Some(number) = numbers.next().await {
///             sum += number?;
///         }
///         Ok(sum)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let counter = CounterClient::local(MyCounter);
/// let mut numbers = counter.count(3).await?;
/// assert_eq!(numbers.next().await.transpose()?, Some(1));
/// assert_eq!(counter.sum(numbers).await?, 5, "the other two");
/// # Ok(()) }
/// ```
#[must_use = "a stream does nothing unless it is read or sent"]
pub struct Streaming<T, E: MethodError = Status> {
    items: Items<T, E>,
    has_ended: bool,
    /// The error with which the creator has ended the stream, while its items are sent.
    failure: Option<Result<E, Status>>,
}

enum Items<T, E: MethodError> {
    Stream(Pin<Box<dyn Stream<Item = Result<T, E>> + Send>>),
    Channel(Channel<T, E>),
    Received(ReceivedStream<T>),
    Calls(CallItems<T, E>),
}

/// The items of several calls.
type CallItems<T, E> = Pin<Box<dyn Stream<Item = Result<T, <E as MethodError>::CallError>> + Send>>;

/// A stream of received items.
pub(crate) struct ReceivedStream<T> {
    items: Box<dyn ReceivedItems>,
    decode: fn(Payload) -> Result<T, Status>,
    /// The item that is being decompressed.
    plain: Option<BoxFuture<'static, Result<Payload, Status>>>,
    method: Option<&'static MethodInfo>,
}

/// How a stream ends early.
enum Failure<E: MethodError> {
    /// By an error of its creator in this process.
    Own(E),
    /// By the error of a call.
    Call(E::CallError),
}

impl<T, E: MethodError> Streaming<T, E> {
    /// Creates a stream, and the sender of its items.
    ///
    /// At most `capacity` items wait in this process until the peer has granted credit for them. Pass the stream to a call
    /// or return it from a handler, and send the items from another task.
    ///
    /// # Panics
    ///
    /// Panics if `capacity` is 0.
    pub fn channel(capacity: usize) -> (StreamSender<T, E>, Self) {
        let (sender, channel) = sender::channel(capacity);
        (sender, Self::new(Items::Channel(channel)))
    }

    /// Creates a stream from another one. It ends after the first error.
    pub fn from_stream(stream: impl Stream<Item = Result<T, E>> + Send + 'static) -> Self {
        Self::new(Items::Stream(Box::pin(stream)))
    }

    /// Creates a stream of the items of an iterator, each of which is created when it is sent.
    pub fn from_iterator(items: impl IntoIterator<Item = T, IntoIter: Send + 'static>) -> Self
    where
        T: Send + 'static,
        E: 'static,
    {
        Self::from_stream(Iterated(items.into_iter().map(Ok)))
    }

    /// Returns the next element of the stream: an item, an error, or `None` at its end.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time: no item is lost.
    pub async fn next(&mut self) -> Option<Result<T, E::CallError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn new(items: Items<T, E>) -> Self {
        Self { items, has_ended: false, failure: None }
    }

    /// Returns the next item, or how the stream ended.
    fn poll_item(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Result<T, Failure<E>>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let item = match &mut self.items {
            Items::Stream(stream) => ready!(stream.as_mut().poll_next(cx)).map(|item| item.map_err(Failure::Own)),
            Items::Channel(channel) => match ready!(channel.poll(cx)) {
                Element::Item(item) => Some(item.map_err(Failure::Own)),
                Element::End => None,
                Element::Panicked => Some(Err(Failure::Call(
                    Error::answered(Code::Internal, "the sender of the stream was dropped by a panic").into(),
                ))),
            },
            Items::Calls(calls) => ready!(calls.as_mut().poll_next(cx)).map(|item| item.map_err(Failure::Call)),
            Items::Received(received) => match ready!(received.poll_item(cx)) {
                Ok(item) => Some(Ok(item)),
                Err(Ok(reply)) if reply.is_application_error => Some(Err(Failure::Call(E::decode(reply)))),
                Err(Ok(_)) => None,
                Err(Err(error)) => Some(Err(Failure::Call(error.into()))),
            },
        };
        self.has_ended = !matches!(item, Some(Ok(_)));
        Poll::Ready(item)
    }
}

impl<T: DeserializeOwned + 'static, E: MethodError> Streaming<T, E> {
    /// Returns the stream of a call of `method`, which returns one; for callers that have no contract.
    ///
    /// # Errors
    ///
    /// `Internal` if the callee has answered without a stream.
    pub fn of_reply(reply: Reply, method: &'static MethodInfo) -> Result<Self, Error> {
        ReceivedStream::of_reply(reply, method).map(|received| Self::new(Items::Received(received)))
    }
}

impl<T, E: MethodError> Streaming<T, E> {
    /// Creates a stream of the items of several calls.
    pub(crate) fn of_calls(calls: impl Stream<Item = Result<T, E::CallError>> + Send + 'static) -> Self {
        Self::new(Items::Calls(Box::pin(calls)))
    }

    /// Returns the received items, or this stream if it consists of none or has ended.
    pub(crate) fn into_received(self) -> Result<ReceivedStream<T>, Self> {
        match self.items {
            Items::Received(received) if !self.has_ended => Ok(received),
            items => Err(Self { items, ..self }),
        }
    }
}

impl<T: DeserializeOwned + 'static> Streaming<T> {
    /// Returns the stream that the caller sends.
    pub(crate) fn of_caller(responder: &mut Responder) -> Self {
        Self::new(Items::Received(ReceivedStream::new(responder.take_items(), None)))
    }
}

impl<T: DeserializeOwned + 'static> ReceivedStream<T> {
    /// Creates a stream of received items. `method` is that of a call whose result it is.
    fn new(items: Box<dyn ReceivedItems>, method: Option<&'static MethodInfo>) -> Self {
        // A `Bytes` shares the memory of its frame.
        let decode = |payload: Payload| payload.decode::<Uncopied<T>>().map(|item| item.0);
        Self { items, decode, plain: None, method }
    }

    /// Returns the stream of a call of `method`, which returns one.
    ///
    /// # Errors
    ///
    /// `Internal` if the callee has answered without a stream.
    pub(crate) fn of_reply(reply: Reply, method: &'static MethodInfo) -> Result<Self, Error> {
        if reply.is_application_error {
            return Err(reply.unexpected_error());
        }
        match reply.items {
            Some(items) => Ok(Self::new(items.into_received(), Some(method))),
            None => Err(undecodable(Status::new(Code::Internal, "it is not a stream"), reply.peer)),
        }
    }
}

impl<T> ReceivedStream<T> {
    /// Returns whether the peer that sends the items drains.
    pub(crate) fn is_draining(&self) -> bool {
        self.items.is_draining()
    }

    /// Returns the next item, or the answer or the error at the end of the stream.
    pub(crate) fn poll_item(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<T, Result<Reply, Error>>> {
        // A peer that sends faster than this end decodes must not occupy the thread.
        let budget = ready!(coop::poll_proceed(cx));
        let payload = loop {
            if let Some(plain) = &mut self.plain {
                let plain = ready!(plain.as_mut().poll(cx));
                self.plain = None;
                break plain;
            }
            match ready!(self.items.poll_item(cx)) {
                Received::Item(payload) if payload.is_short() => break Ok(payload),
                // A compressed item is decompressed outside of this task if it is long.
                Received::Item(payload) => {
                    let work = self.items.work();
                    self.plain = Some(Box::pin(async move { payload.into_plain(&work).await }));
                }
                Received::End(end) => return Poll::Ready(Err(end)),
            }
        };
        budget.made_progress();
        let decoded = payload.and_then(|payload| {
            self.items.release(payload.bytes.len());
            (self.decode)(payload)
        });
        Poll::Ready(decoded.map_err(|status| Err(self.undecodable(&status))))
    }

    fn undecodable(&self, status: &Status) -> Error {
        // An item that does not decode is the fault of the end that sent it.
        let code = if status.code() == Code::InvalidArgument && self.method.is_some() {
            Code::Internal
        } else {
            status.code()
        };
        let route = self.method.map_or(String::new(), |method| format!("{}: ", method.route()));
        let message = format!("{route}an item of the stream does not decode: {}", status.message());
        Error::answered(code, message).with_phase(Phase::Decode)
    }
}

impl<T, E: MethodError> Stream for Streaming<T, E> {
    type Item = Result<T, E::CallError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.get_mut().poll_item(cx));
        Poll::Ready(item.map(|item| {
            item.map_err(|failure| match failure {
                Failure::Own(error) => error.into_call_error(),
                Failure::Call(error) => error,
            })
        }))
    }
}

/// No field is ever pinned: streams are boxed.
impl<T, E: MethodError> Unpin for Streaming<T, E> {}

impl<T: Send + 'static, E: MethodError + 'static> FromIterator<T> for Streaming<T, E> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::from_iterator(items.into_iter().collect::<Vec<T>>())
    }
}

/// The items of an iterator.
struct Iterated<I>(I);

/// The iterator is never pinned.
impl<I> Unpin for Iterated<I> {}

impl<I: Iterator> Stream for Iterated<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }
}

impl<T: Serialize + Send + 'static, E: MethodError> ItemSource for Streaming<T, E> {
    fn poll_encode(
        &mut self,
        cx: &mut task::Context<'_>,
        codec: Codec,
        out: &mut WriteBuffer,
    ) -> Poll<Option<Result<(), CodecError>>> {
        Poll::Ready(match ready!(self.poll_item(cx)) {
            Some(Ok(item)) => Some(Uncopied(item).encode(codec, out)),
            Some(Err(Failure::Own(error))) => {
                self.failure = Some(Ok(error));
                None
            }
            Some(Err(Failure::Call(error))) => {
                self.failure = Some(E::from_call_error(error));
                None
            }
            None => None,
        })
    }
}

impl<T: Serialize + Send + 'static> CallerSource for Streaming<T> {
    fn take_failure(&mut self) -> Option<Status> {
        self.failure.take().map(|failure| failure.unwrap_or_else(|status| status))
    }
}

impl<T: Serialize + Send + 'static, E: MethodError + 'static> CalleeSource for Streaming<T, E> {
    fn finish(self: Box<Self>, responder: Responder) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            match self.failure {
                None => responder.end(),
                Some(Ok(error)) => error.answer(responder).await,
                Some(Err(status)) => responder.status(status),
            }
        })
    }
}

impl<T, E: MethodError> fmt::Debug for Streaming<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.items {
            Items::Stream(_) => "stream",
            Items::Channel(_) => "channel",
            Items::Received(_) => "received",
            Items::Calls(_) => "calls",
        };
        f.debug_struct("Streaming").field("items", &kind).field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}
