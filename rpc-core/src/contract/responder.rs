//! [`Responder`]: the answer to one call.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    task::{self, Poll},
    time::Duration,
};

use bytes::BytesMut;
use serde::Serialize;
use tokio::sync::oneshot;

use super::{
    encoding::ResultPlace,
    reply::{Received, ReceivedItems},
    streaming::{CalleeStreams, ItemSource, LocalCallerItems, LocalItems, Sent},
};
use crate::{AnswerSink, AnswerTarget, BoxFuture, Code, Codec, Context, EncodedAnswer, Error, Status, StatusAnswer};

/// Sends the one answer to one call.
///
/// The first answer that is claimed is sent; later ones are discarded.
///
/// # Drop
///
/// Dropping a responder without an answer answers `Internal`, so that no caller waits for its deadline.
#[must_use = "dropping a responder answers the call with an error"]
pub struct Responder {
    context: Context,
    destination: Destination,
}

enum Destination {
    Sink(Arc<dyn AnswerSink>, AnswerTarget),
    /// The destination of a call with streams.
    Streams(Box<StreamsSink>),
    Local(Box<LocalSink>),
    /// The destination of a one-way call.
    Discard,
}

struct StreamsSink {
    sink: Arc<dyn AnswerSink>,
    target: AnswerTarget,
    streams: Box<dyn CalleeStreams>,
}

struct LocalSink {
    codec: Codec,
    /// The items that the caller sends. The lock only makes them `Sync`.
    received: Mutex<Option<LocalItems>>,
    reply: Option<oneshot::Sender<LocalReply>>,
}

impl Destination {
    /// Returns the destination of the answer, if it is sent to a peer.
    fn sink(&self) -> Option<(&Arc<dyn AnswerSink>, &AnswerTarget)> {
        match self {
            Self::Sink(sink, target) => Some((sink, target)),
            Self::Streams(streams) => Some((&streams.sink, &streams.target)),
            Self::Local(_) | Self::Discard => None,
        }
    }
}

/// An answer that waits for capacity, or for its compression.
enum Unsent<T> {
    /// A result or an error value.
    Value {
        status: Status,
        value: T,
        /// Whether its compression takes long, so that it needs a place.
        is_long: bool,
    },
    Encoded(EncodedAnswer),
    /// An encoded answer whose compression takes long.
    Long(EncodedAnswer, ResultPlace),
}

/// The items that a callee sends.
pub(crate) trait CalleeSource: ItemSource {
    /// Answers with the end of the stream, after the last item.
    fn finish(self: Box<Self>, responder: Responder) -> BoxFuture<'static, ()>;
}

/// An answer within this process.
pub(crate) struct LocalReply {
    pub(crate) answer: StatusAnswer,
    pub(crate) payload: BytesMut,
    /// The items of a stream, and the context of the handler that has created it.
    pub(crate) items: Option<(Box<dyn CalleeSource>, Context)>,
}

impl LocalReply {
    pub(crate) fn status(answer: StatusAnswer) -> Self {
        Self { answer, payload: BytesMut::new(), items: None }
    }
}

impl Responder {
    /// Creates the responder of a one-way call, which discards the answer.
    pub fn discard(context: Context) -> Self {
        Self { context, destination: Destination::Discard }
    }

    pub(crate) fn new(context: Context, sink: Arc<dyn AnswerSink>, target: AnswerTarget) -> Self {
        Self { context, destination: Destination::Sink(sink, target) }
    }

    pub(crate) fn with_streams(
        context: Context,
        sink: Arc<dyn AnswerSink>,
        target: AnswerTarget,
        streams: Box<dyn CalleeStreams>,
    ) -> Self {
        Self { context, destination: Destination::Streams(Box::new(StreamsSink { sink, target, streams })) }
    }

    pub(crate) fn local(
        context: Context,
        codec: Codec,
        received: Option<LocalItems>,
        reply: oneshot::Sender<LocalReply>,
    ) -> Self {
        let (received, reply) = (Mutex::new(received), Some(reply));
        Self { context, destination: Destination::Local(Box::new(LocalSink { codec, received, reply })) }
    }

    /// Returns the context of the call.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Answers with a result. Waits for capacity on the connection.
    ///
    /// The value is encoded when there is capacity, and a second time if it is to be compressed and many results of the
    /// connection are being compressed. Until then, or until the call ends, it is kept with all that it owns, such as a lock
    /// guard or a buffer of a pool. Nothing is sent until the future is polled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it has answered answers `Internal`.
    pub fn result<T: Serialize>(self, value: T) -> impl Future<Output = ()> {
        self.send(Status::OK, value)
    }

    /// Answers with the service's own error. Waits for capacity on the connection.
    ///
    /// # Cancel safety
    ///
    /// As [`result`](Self::result).
    pub fn error<E: Serialize>(self, error: E) -> impl Future<Output = ()> {
        self.send(Status::new(Code::Application, ""), error)
    }

    /// Takes the items that the caller sends. A second call, and one for a caller that sends none, returns items that fail.
    pub(crate) fn take_items(&mut self) -> Box<dyn ReceivedItems> {
        let received: Option<Box<dyn ReceivedItems>> = match &mut self.destination {
            Destination::Streams(streams) => streams.streams.take_received(),
            Destination::Local(local) => {
                let received = local.received.get_mut().unwrap_or_else(PoisonError::into_inner).take();
                received.map(|items| Box::new(LocalCallerItems::new(items, local.codec)) as _)
            }
            Destination::Sink(..) | Destination::Discard => None,
        };
        received.unwrap_or_else(|| Box::new(NoItems))
    }

    /// Accepts the call, and sends the items of a stream. Returns when the stream has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the stream with `Internal`.
    pub(crate) async fn send_items(mut self, mut source: Box<dyn CalleeSource>) {
        let sent = match &mut self.destination {
            Destination::Streams(streams) => {
                if !streams.streams.accept(&self.context) {
                    return;
                }
                streams.streams.send(&self.context, &mut *source).await
            }
            Destination::Local(local) => {
                if self.context.claim_answer(Code::Ok)
                    && let Some(reply) = local.reply.take()
                {
                    // The metadata of the acceptance stays in the context, from which the caller takes it.
                    self.context.mark_accepted();
                    let answer = LocalReply::status(StatusAnswer::handled(Status::OK));
                    // Sending fails if the caller has dropped the call.
                    let _ = reply.send(LocalReply { items: Some((source, self.context.clone())), ..answer });
                }
                return;
            }
            Destination::Sink(..) => return self.reject(Status::new(Code::Unimplemented, NO_STREAM)),
            Destination::Discard => return self.end(),
        };
        match sent {
            Sent::All => source.finish(self).await,
            Sent::Ended => {}
            Sent::Failed(status) => self.status(status),
        }
    }

    /// Ends the stream of an accepted call regularly.
    pub(crate) fn end(mut self) {
        self.answer_status(StatusAnswer::handled(Status::OK));
    }

    /// Answers with a status and no value.
    ///
    /// The answer does not state that the handler did not execute, so the client does not send the call again. The codes
    /// `Ok` and `Application` require a value and are replaced by `Internal`.
    pub fn status(mut self, status: Status) {
        self.answer_status(StatusAnswer::handled(without_value(status)));
    }

    /// Rejects the call, whose handler has not executed.
    ///
    /// A client may send the call to another server if the code is `Unavailable` or `Unimplemented`. The codes `Ok` and
    /// `Application` require a value and are replaced by `Internal`.
    pub fn reject(mut self, status: Status) {
        self.answer_status(StatusAnswer::rejection(without_value(status)));
    }

    /// Rejects the call, whose handler has not executed, and states when the caller may send it again.
    pub fn reject_until(mut self, status: Status, retry_after: Duration) {
        self.answer_status(StatusAnswer::rejection(without_value(status).with_retry_after(retry_after)));
    }

    #[expect(clippy::manual_async_fn, reason = "the future of an async function contains its parameters twice")]
    fn send<T: Serialize>(mut self, status: Status, value: T) -> impl Future<Output = ()> {
        async move {
            let Some(unsent) = self.try_send(status, value) else { return };
            // The wait is rare, so its future is boxed: otherwise the future of every handler would contain it.
            Box::pin(self.send_later(unsent)).await;
        }
    }

    /// Waits for capacity, then answers.
    async fn send_later<T: Serialize>(self, unsent: Unsent<T>) {
        let Some((sink, target)) = self.destination.sink() else { return };
        self.context.mark_unsent();
        let (mut answer, _place) = match unsent {
            Unsent::Encoded(answer) => (answer, None),
            Unsent::Long(answer, place) => (answer.compressed(self.context.peer()).await, Some(place)),
            Unsent::Value { status, value, is_long } => {
                let place = if is_long { Some(self.context.peer().work().result_place().await) } else { None };
                match self.send_value(sink, target, status, value, place).await {
                    Some(unsent) => unsent,
                    None => return,
                }
            }
        };
        answer.shrink();
        // A closed connection needs no answer.
        if let Some(turn) = Arc::clone(sink).turn(target, Some(&answer)).await {
            turn.answer(target, &self.context, answer);
        }
    }

    /// Encodes a value when there is capacity for it, and sends it: a peer that does not read costs no time for results
    /// that it will never receive.
    ///
    /// If its compression takes long, does not send it, but returns it compressed with its place, for which `place` is
    /// used if the value has one. Returns a long answer too, which waits for other capacity.
    async fn send_value<T: Serialize>(
        &self,
        sink: &Arc<dyn AnswerSink>,
        target: &AnswerTarget,
        status: Status,
        value: T,
        mut place: Option<ResultPlace>,
    ) -> Option<(EncodedAnswer, Option<ResultPlace>)> {
        let peer = self.context.peer();
        loop {
            let turn = Arc::clone(sink).turn(target, None).await?;
            if self.context.is_answered() {
                return None;
            }
            let answer = EncodedAnswer::new(target, status.clone(), &value);
            if !answer.is_long_to_compress() {
                if !sink.is_short(target, &answer) {
                    return Some((answer, None));
                }
                turn.answer(target, &self.context, answer);
                return None;
            }
            drop(turn);
            if let Some(place) = place.take().or_else(|| peer.work().try_result_place()) {
                drop(value);
                return Some((answer.compressed(peer).await, Some(place)));
            }
            // It waits for its place as a value and is encoded again.
            drop(answer);
            place = Some(peer.work().result_place().await);
        }
    }

    /// Answers, or returns the answer if the destination has no capacity for it, or if its compression takes long.
    ///
    /// The value is encoded under no lock.
    fn try_send<T: Serialize>(&mut self, status: Status, value: T) -> Option<Unsent<T>> {
        // The deadline or the caller may have ended the call.
        if self.context.is_answered() {
            return None;
        }
        let (sink, target) = match &mut self.destination {
            Destination::Sink(sink, target) => (&*sink, &*target),
            Destination::Streams(streams) => (&streams.sink, &streams.target),
            Destination::Discard => {
                self.context.claim_answer(status.code());
                return None;
            }
            Destination::Local(local) => {
                let mut payload = BytesMut::new();
                let encoded = local.codec.encode(&value, &mut payload);
                let status = encoded.map_or_else(|error| unencodable(&error), |()| status);
                if self.context.claim_answer(status.code())
                    && let Some(reply) = local.reply.take()
                {
                    // Sending fails if the caller has dropped the call.
                    let _ = reply.send(LocalReply { payload, ..LocalReply::status(StatusAnswer::handled(status)) });
                }
                return None;
            }
        };
        if !sink.has_capacity() {
            return Some(Unsent::Value { status, value, is_long: false });
        }
        let mut answer = EncodedAnswer::new(target, status, &value);
        if answer.is_long_to_compress() {
            let place = || self.context.peer().work().try_result_place();
            let place = if sink.is_unlimited() { Some(ResultPlace::UNLIMITED) } else { place() };
            return Some(match place {
                Some(place) => Unsent::Long(answer, place),
                None => Unsent::Value { status: answer.status, value, is_long: true },
            });
        }
        if sink.try_answer(target, &self.context, &mut answer) {
            return None;
        }
        answer.shrink();
        Some(Unsent::Encoded(answer))
    }

    fn answer_status(&mut self, answer: StatusAnswer) {
        // Most responders have answered before they are dropped.
        if self.context.is_answered() {
            return;
        }
        match &mut self.destination {
            Destination::Sink(sink, target) => sink.answer_status(target, &self.context, &answer),
            Destination::Streams(streams) => streams.sink.answer_status(&streams.target, &self.context, &answer),
            Destination::Discard => {
                self.context.claim_answer(answer.status.code());
            }
            Destination::Local(local) => {
                if self.context.claim_answer(answer.status.code())
                    && let Some(reply) = local.reply.take()
                {
                    let _ = reply.send(LocalReply::status(answer));
                }
            }
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let how = if std::thread::panicking() { "the handler panicked" } else { "the handler ended without an answer" };
        self.answer_status(StatusAnswer::handled(Status::new(Code::Internal, how)));
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("context", &self.context).finish_non_exhaustive()
    }
}

/// Replaces a status that requires a value.
fn without_value(status: Status) -> Status {
    match status.code() {
        code @ (Code::Ok | Code::Application) => {
            Status::internal(format!("an answer without a value has the status {code}"))
        }
        _ => status,
    }
}

/// The received items of a caller that sends none.
struct NoItems;

impl ReceivedItems for NoItems {
    fn poll_item(&mut self, _: &mut task::Context<'_>) -> Poll<Received> {
        let message = "the caller sends no items, or the handler has taken them";
        Poll::Ready(Received::End(Err(Error::answered(Code::InvalidArgument, message))))
    }

    fn release(&mut self, _: usize) {}
}

/// The message for a caller that does not expect items.
const NO_STREAM: &str = "the result is a stream, and the caller expects none";

fn unencodable(error: &crate::CodecError) -> Status {
    Status::new(Code::Internal, format!("the result does not encode: {error}"))
}
