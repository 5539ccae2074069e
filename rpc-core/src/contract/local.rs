//! [`Local`]: calls of a service within one process, without a connection.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{self, Poll},
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    responder::LocalReply,
    streaming::{CallerItems, LocalFailure, LocalItems, local_callee::into_result},
};
use crate::{
    BoxFuture, CallOptions, Caller, Code, Context, Encode, Error, Explain, Explanation, Metadata, Payload, Phase,
    Reply, Request, Responder, Service, Status, StatusAnswer, WriteBuffer,
};

/// A caller of a service in the same process.
///
/// It replaces a client in tests, and where caller and service share a process.
///
/// As over a connection, arguments and results are encoded and decoded in the call's codec, deadlines and cancellation
/// apply, and handlers have a context. Nothing is compressed. A panic of the handler unwinds into the caller.
#[derive(Debug)]
pub struct Local<S> {
    service: Arc<S>,
}

impl<S: Service> Local<S> {
    /// Creates a caller of `service`.
    pub fn new(service: S) -> Self {
        Self { service: Arc::new(service) }
    }
}

impl<S> Clone for Local<S> {
    fn clone(&self) -> Self {
        Self { service: Arc::clone(&self.service) }
    }
}

impl<S: Service> Caller for Local<S> {
    type Calling<A: Encode + Send + 'static> = LocalCall;

    fn call<A: Encode + Send + 'static>(&self, request: Request<A>) -> LocalCall {
        let service = Arc::clone(&self.service);
        let Request { method, arguments, options } = request;
        // Encode before the future is created, so that it contains neither the arguments nor their type.
        let codec = options.codec.or(method.default_codec()).unwrap_or_default();
        let mut out = WriteBuffer::new();
        let encoded = arguments.encode(codec, &mut out);
        LocalCall(Box::pin(async move {
            if let Some(status) = options.invalid.clone() {
                return Err(Error::not_executed(status.code(), status.message().to_owned()).with_phase(Phase::Send));
            }
            encoded.map_err(|error| {
                Error::not_executed(Code::InvalidArgument, "the arguments do not encode")
                    .with_phase(Phase::Send)
                    .with_source(error)
            })?;
            let number =
                service.methods().iter().position(|known| known.route() == method.route()).ok_or_else(|| {
                    Error::not_executed(Code::Unimplemented, format!("method {} is not served", method.route()))
                })?;
            let deadline = options.deadline_from(Instant::now(), method, CallOptions::DEFAULT_TIMEOUT);
            if deadline <= Instant::now() {
                let error = Error::not_executed(Code::DeadlineExceeded, "the deadline passed before the call");
                return Err(error.with_phase(Phase::Send));
            }
            let context = Context::new(Arc::default(), Some(deadline), options.metadata.clone(), None);
            let (sender, receiver) = oneshot::channel();
            let mut failure = LocalFailure::never();
            let responder = if method.is_one_way() {
                drop(sender);
                Responder::discard(context.clone())
            } else {
                let items = options.items.as_ref().and_then(CallerItems::take).map(|source| {
                    let (items, fails) = LocalItems::new(source);
                    failure = fails;
                    items
                });
                Responder::local(context.clone(), codec, items, sender)
            };
            let call = CancelOnDrop(context.clone());
            let handled = service.call(number, Payload::plain(codec, out.into_bytes()), responder);
            let mut handled = pin!(context.scope(handled));
            let handled = poll_fn(|cx| match handled.as_mut().poll(cx) {
                // A handler that has read the failure may have answered.
                Poll::Ready(()) => Poll::Ready(match failure.poll(cx) {
                    Poll::Ready(error) => Err(error),
                    Poll::Pending => Ok(()),
                }),
                Poll::Pending => failure.poll(cx).map(Err),
            });
            let in_time = timeout_at(deadline, handled).await;
            // Calls of the handler inherit the deadline and may fail before this timeout. Their error must not replace it.
            if in_time.is_err() || Instant::now() >= deadline {
                return Err(Error::unknown(Code::DeadlineExceeded, "the deadline passed").with_phase(Phase::Wait));
            }
            if let Ok(Err(error)) = in_time {
                return Err(error);
            }
            if method.is_one_way() {
                let answer = LocalReply::status(StatusAnswer::handled(Status::OK));
                return into_result(answer, codec, Metadata::default(), None, failure);
            }
            let received =
                receiver.await.map_err(|_| Error::unknown(Code::Internal, "the handler ended without an answer"))?;
            // Metadata that is added later belongs to the end of the stream.
            let metadata = if received.items.is_some() { call.0.accept() } else { call.0.response_metadata() };
            into_result(received, codec, metadata, options.stream_timeout_of(method), failure)
        }))
    }
}

/// A call in progress within this process.
#[must_use = "futures do nothing unless polled"]
pub struct LocalCall(pub(super) BoxFuture<'static, Result<Reply, Error>>);

impl Future for LocalCall {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// A local call has no candidates and no attempts.
impl Explain for LocalCall {
    fn explanation(&self) -> Explanation {
        Explanation::default()
    }
}

struct CancelOnDrop(Context);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if !self.0.is_answered() {
            self.0.cancel();
        }
    }
}
