//! [`LocalCalleeItems`]: the items of a callee in the same process.

use std::{
    sync::Arc,
    task::{self, Poll, ready},
};

use tokio::sync::oneshot;

use super::local_caller::poll_payload;
use crate::{
    BoxFuture, Code, Codec, Context, Error, Metadata, Payload, Received, ReceivedItems, Reply, ReplyItems, Responder,
    contract::responder::{CalleeSource, LocalReply},
};

/// The items of a callee in the same process. The caller takes each directly from its source.
struct LocalCalleeItems {
    stage: Stage,
    codec: Codec,
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
}

/// Returns the reply of a handler in this process, or the error of an answer without a value.
pub(crate) fn into_result(reply: LocalReply, codec: Codec, metadata: Metadata) -> Result<Reply, Error> {
    let LocalReply { answer, payload, items } = reply;
    let is_application_error = match answer.status.code() {
        Code::Ok => false,
        Code::Application => true,
        _ => return Err(Error::from_answer(answer).with_metadata(metadata)),
    };
    let items = items.map(|(source, context)| {
        ReplyItems::new(Box::new(LocalCalleeItems { stage: Stage::Items(source, context), codec }))
    });
    Ok(Reply { is_application_error, metadata, payload: Payload::plain(codec, payload.freeze()), peer: None, items })
}

impl ReceivedItems for LocalCalleeItems {
    fn poll_item(&mut self, cx: &mut task::Context<'_>) -> Poll<Received> {
        let codec = self.codec;
        if let Stage::Items(source, context) = &mut self.stage {
            if let Some(received) = ready!(context.sync_scope(|| poll_payload(&mut **source, codec, cx))) {
                return Poll::Ready(received);
            }
            let never = Stage::End(Box::pin(std::future::pending()));
            if let Stage::Items(source, _) = std::mem::replace(&mut self.stage, never) {
                self.stage = Stage::End(Box::pin(finish(source, codec)));
            }
        }
        match &mut self.stage {
            Stage::End(end) => end.as_mut().poll(cx).map(Received::End),
            Stage::Items(..) => Poll::Pending,
        }
    }

    fn release(&mut self, _: usize) {}
}

async fn finish(source: Box<dyn CalleeSource>, codec: Codec) -> Result<Reply, Error> {
    let (sender, receiver) = oneshot::channel();
    // The call has its answer, so its end needs a context of its own.
    let context = Context::new(Arc::default(), None, Metadata::default(), None);
    source.finish(Responder::local(context, codec, None, sender)).await;
    let reply = receiver.await.map_err(|_| Error::unknown(Code::Internal, "the stream ended without an answer"))?;
    into_result(reply, codec, Metadata::default())
}
