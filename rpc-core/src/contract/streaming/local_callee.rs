//! [`LocalCalleeItems`]: the items of a callee in the same process.

use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Sleep, sleep},
};

use super::{LocalFailure, local_caller::poll_payload};
use crate::{
    BoxFuture, Code, Codec, Context, Error, Metadata, Payload, Received, ReceivedItems, Reply, ReplyItems, Responder,
    contract::responder::{CalleeSource, LocalReply},
};

/// The items of a callee in the same process. The caller takes each directly from its source.
struct LocalCalleeItems {
    stage: Stage,
    codec: Codec,
    limits: Limits,
}

/// The reasons for which a stream ends early.
struct Limits {
    /// The end of the time of the stream, if it is limited.
    end: Option<Pin<Box<Sleep>>>,
    /// The failure of the stream that the caller sends.
    failure: LocalFailure,
}

/// Notifies the handler's tasks that the caller reads no more items.
impl Drop for LocalCalleeItems {
    fn drop(&mut self) {
        if let Stage::Items(_, context) = &self.stage {
            context.cancel();
        }
    }
}

enum Stage {
    /// The context is that of the handler that created the stream.
    Items(Box<dyn CalleeSource>, Context),
    /// The answer at the end of the stream.
    End(BoxFuture<'static, Result<Reply, Error>>),
    /// The stream has ended early.
    Lost,
}

/// Returns the reply of a handler in this process, or the error of an answer without a value.
///
/// A stream lasts for at most `stream_timeout`, and ends by the `failure` of that of the caller.
pub(crate) fn into_result(
    reply: LocalReply,
    codec: Codec,
    metadata: Metadata,
    stream_timeout: Option<Duration>,
    failure: LocalFailure,
) -> Result<Reply, Error> {
    let LocalReply { answer, payload, items } = reply;
    let is_application_error = match answer.status.code() {
        Code::Ok => false,
        Code::Application => true,
        _ => return Err(Error::from_answer(answer).with_metadata(metadata)),
    };
    let items = items.map(|(source, context)| {
        let limits = Limits { end: stream_timeout.map(|timeout| Box::pin(sleep(timeout))), failure };
        ReplyItems::new(Box::new(LocalCalleeItems { stage: Stage::Items(source, context), codec, limits }))
    });
    Ok(Reply { is_application_error, metadata, payload: Payload::plain(codec, payload.freeze()), peer: None, items })
}

impl ReceivedItems for LocalCalleeItems {
    fn poll_item(&mut self, cx: &mut task::Context<'_>) -> Poll<Received> {
        let codec = self.codec;
        if let Stage::Items(source, context) = &mut self.stage {
            let mut lost = self.limits.poll(cx);
            let mut received = None;
            if lost.is_none() {
                received = ready!(context.sync_scope(|| poll_payload(&mut **source, codec, cx)));
                if !matches!(received, Some(Received::Item(_))) {
                    // The source may end because it has read the failure of the caller.
                    lost = self.limits.poll(cx);
                }
            }
            if let Some(error) = lost {
                context.cancel();
                self.stage = Stage::Lost;
                return Poll::Ready(Received::End(Err(error)));
            }
            if let Some(received) = received {
                return Poll::Ready(received);
            }
            let never = Stage::End(Box::pin(std::future::pending()));
            if let Stage::Items(source, context) = std::mem::replace(&mut self.stage, never) {
                self.stage = Stage::End(Box::pin(finish(source, codec, context.response_metadata())));
            }
        }
        match &mut self.stage {
            Stage::End(end) => end.as_mut().poll(cx).map(Received::End),
            Stage::Items(..) | Stage::Lost => Poll::Pending,
        }
    }

    fn release(&mut self, _: usize) {}
}

impl Limits {
    fn poll(&mut self, cx: &mut task::Context<'_>) -> Option<Error> {
        if let Poll::Ready(error) = self.failure.poll(cx) {
            return Some(error);
        }
        let is_over = self.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready());
        is_over.then(|| Error::unknown(Code::DeadlineExceeded, "the stream has reached its timeout"))
    }
}

async fn finish(source: Box<dyn CalleeSource>, codec: Codec, metadata: Metadata) -> Result<Reply, Error> {
    let (sender, receiver) = oneshot::channel();
    // The call has its answer, so its end needs a context of its own.
    let context = Context::new(Arc::default(), None, Metadata::default(), None);
    source.finish(Responder::local(context, codec, None, sender)).await;
    let reply = receiver.await.map_err(|_| Error::unknown(Code::Internal, "the stream ended without an answer"))?;
    into_result(reply, codec, metadata, None, LocalFailure::never())
}
