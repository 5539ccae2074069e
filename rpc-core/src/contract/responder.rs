//! [`Responder`]: the answer to one call.

use std::{fmt, sync::Arc, time::Duration};

use bytes::BytesMut;
use serde::Serialize;
use tokio::sync::oneshot;

use super::encoding::ResultPlace;
use crate::{AnswerSink, AnswerTarget, Code, Codec, Context, EncodedAnswer, Status, StatusAnswer};

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
    Local(Codec, Option<oneshot::Sender<LocalReply>>),
    /// The destination of a one-way call.
    Discard,
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

/// An answer within this process.
pub(crate) struct LocalReply {
    pub(crate) answer: StatusAnswer,
    pub(crate) payload: BytesMut,
}

impl Responder {
    /// Creates the responder of a one-way call, which discards the answer.
    pub fn discard(context: Context) -> Self {
        Self { context, destination: Destination::Discard }
    }

    pub(crate) fn new(context: Context, sink: Arc<dyn AnswerSink>, target: AnswerTarget) -> Self {
        Self { context, destination: Destination::Sink(sink, target) }
    }

    pub(crate) fn local(context: Context, codec: Codec, reply: oneshot::Sender<LocalReply>) -> Self {
        Self { context, destination: Destination::Local(codec, Some(reply)) }
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
        let Destination::Sink(sink, target) = &self.destination else { return };
        self.context.mark_unsent();
        let (answer, _place) = match unsent {
            Unsent::Encoded(answer) => (answer, None),
            Unsent::Long(answer, place) => (answer.compressed(self.context.peer()).await, Some(place)),
            Unsent::Value { status, value, is_long } => {
                let place = if is_long { Some(self.context.peer().work().result_place().await) } else { None };
                match self.send_value(sink, target, status, value, place).await {
                    Some((answer, place)) => (answer, Some(place)),
                    None => return,
                }
            }
        };
        // A closed connection needs no answer.
        if let Some(turn) = Arc::clone(sink).turn().await {
            turn.answer(target, &self.context, answer);
        }
    }

    /// Encodes a value when there is capacity for it, and sends it: a peer that does not read costs no time for results
    /// that it will never receive.
    ///
    /// If its compression takes long, does not send it, but returns it compressed with its place, for which `place` is
    /// used if the value has one.
    async fn send_value<T: Serialize>(
        &self,
        sink: &Arc<dyn AnswerSink>,
        target: &AnswerTarget,
        status: Status,
        value: T,
        mut place: Option<ResultPlace>,
    ) -> Option<(EncodedAnswer, ResultPlace)> {
        let peer = self.context.peer();
        loop {
            let turn = Arc::clone(sink).turn().await?;
            if self.context.is_answered() {
                return None;
            }
            let answer = EncodedAnswer::new(target, status.clone(), &value);
            if !answer.is_long_to_compress() {
                turn.answer(target, &self.context, answer);
                return None;
            }
            drop(turn);
            if let Some(place) = place.take().or_else(|| peer.work().try_result_place()) {
                drop(value);
                return Some((answer.compressed(peer).await, place));
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
        match &mut self.destination {
            Destination::Discard => {
                self.context.claim_answer(status.code());
            }
            Destination::Local(codec, reply) => {
                let mut payload = BytesMut::new();
                let encoded = codec.encode(&value, &mut payload);
                let status = encoded.map_or_else(|error| unencodable(&error), |()| status);
                if self.context.claim_answer(status.code())
                    && let Some(reply) = reply.take()
                {
                    // Sending fails if the caller has dropped the call.
                    let _ = reply.send(LocalReply { answer: StatusAnswer::handled(status), payload });
                }
            }
            Destination::Sink(sink, target) => {
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
                if !sink.try_answer(target, &self.context, &mut answer) {
                    answer.shrink();
                    return Some(Unsent::Encoded(answer));
                }
            }
        }
        None
    }

    fn answer_status(&mut self, answer: StatusAnswer) {
        // Most responders have answered before they are dropped.
        if self.context.is_answered() {
            return;
        }
        match &mut self.destination {
            Destination::Sink(sink, target) => sink.answer_status(target, &self.context, &answer),
            Destination::Discard => {
                self.context.claim_answer(answer.status.code());
            }
            Destination::Local(_, reply) => {
                if self.context.claim_answer(answer.status.code())
                    && let Some(reply) = reply.take()
                {
                    let _ = reply.send(LocalReply { answer, payload: BytesMut::new() });
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

fn unencodable(error: &crate::CodecError) -> Status {
    Status::new(Code::Internal, format!("the result does not encode: {error}"))
}
