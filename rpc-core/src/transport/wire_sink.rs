//! [`WireSink`]: answers to the calls of a connection.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::oneshot;

use super::{Outbox, PushError};
use crate::{
    AnswerSink, AnswerStore, AnswerTarget, BoxFuture, Code, Context, Encode, Metadata, Responder, Status, StatusAnswer,
    StoredAnswer, answer, frame::Header,
};

/// The destination of the answer to one call of a connection, and the format of that answer.
#[derive(Debug, Clone)]
pub struct WireSink {
    outbox: Arc<Outbox>,
    target: AnswerTarget,
}

impl WireSink {
    /// Creates the sink of the answer to `request`, which may have up to `max_frame` bytes.
    pub fn new(outbox: Arc<Outbox>, request: &Header, max_frame: usize) -> Self {
        let Header { id, codec, compression, .. } = *request;
        Self { outbox, target: AnswerTarget { id, codec, compression, max_frame } }
    }

    /// Returns the id of the request.
    pub fn id(&self) -> u32 {
        self.target.id
    }

    /// Answers with a stored answer, unless the call has an answer.
    ///
    /// Does not wait for capacity: the frame limit also limits the length of the answer, and each request receives at
    /// most one.
    pub fn replay(&self, context: &Context, answer: &StoredAnswer) {
        claim(&self.outbox, context, Code::Ok, |out| answer.write(out, self.target.id));
    }

    /// Answers with a status and no value, unless the call has an answer.
    pub fn answer_status(&self, context: &Context, answer: &StatusAnswer) {
        self.outbox.answer_status(&self.target, context, answer);
    }

    /// Answers with a status and no value without claiming the answer of the call.
    pub fn answer_unclaimed(&self, answer: &StatusAnswer) {
        // On a closed connection the caller receives the connection's error instead.
        let _ = self.outbox.push_control(|out| answer::write_status(out, &self.target, &Metadata::default(), answer));
    }
}

impl AnswerSink for Outbox {
    fn try_answer(&self, target: &AnswerTarget, context: &Context, status: &Status, value: &dyn Encode) -> bool {
        // The answer is claimed under the outbox's lock and after the capacity check, so a claimed answer is sent. It
        // is claimed after the value is encoded: if `Serialize` panics, dropping the responder still answers.
        let pushed = self.push(|out| {
            if context.is_answered() {
                return;
            }
            let start = out.mark();
            let code = answer::write(out, target, &context.response_metadata(), status, value);
            if !context.claim_answer(code) {
                out.rewind(start);
            }
        });
        pushed != Err(PushError::Full)
    }

    fn capacity(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.capacity())
    }

    fn answer_status(&self, target: &AnswerTarget, context: &Context, answer: &StatusAnswer) {
        claim(self, context, answer.status.code(), |out| {
            answer::write_status(out, target, &context.response_metadata(), answer);
        });
    }
}

/// Claims the answer of a call, and appends it if the call had none.
fn claim(outbox: &Outbox, context: &Context, code: Code, write: impl FnOnce(&mut BytesMut)) {
    // Claimed under the outbox's lock: a connection that waits for its last answer must not find it claimed but not
    // appended.
    let _ = outbox.push_control(|out| {
        if context.claim_answer(code) {
            write(out);
        }
    });
}

impl Responder {
    /// Creates a responder that answers over a connection.
    pub fn wire(context: Context, sink: WireSink) -> Self {
        Self::new(context, sink.outbox, sink.target)
    }

    /// Creates a responder that passes the answer on instead of sending it.
    ///
    /// Of `sink`, only the format is used.
    pub fn store(context: Context, sink: WireSink, answer: oneshot::Sender<StoredAnswer>) -> Self {
        Self::new(context, Arc::new(AnswerStore::new(answer)), sink.target)
    }
}

impl StoredAnswer {
    /// Creates an answer that consists of a status, in the format of `sink`.
    pub fn status(sink: &WireSink, status: Status) -> Self {
        Self::from_status(&sink.target, &Metadata::default(), &StatusAnswer::handled(status))
    }
}
