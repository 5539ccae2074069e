//! [`WireSink`]: answers to the calls of a connection.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::oneshot;

use super::{CallStreams, Outbox, OutboxTurn, Priority, PushError, SendQueue, WireStreams};
use crate::{
    AnswerSink, AnswerStore, AnswerTarget, AnswerTurn, BoxFuture, Code, Context, EncodedAnswer, Responder, Status,
    StatusAnswer, StoredAnswer, WriteBuffer, answer,
    frame::{FrameType, Header},
};

/// The destination of the answer to one call of a connection, and the format of that answer.
#[derive(Debug, Clone)]
pub struct WireSink {
    outbox: Arc<Outbox>,
    target: AnswerTarget,
    streams: Option<Arc<CallStreams>>,
}

impl WireSink {
    /// Creates the sink of the answer to `request`, which may have up to `max_frame` bytes.
    pub fn new(outbox: Arc<Outbox>, request: &Header, max_frame: usize) -> Self {
        let Header { id, codec, compression, .. } = *request;
        Self { outbox, target: AnswerTarget { id, codec, compression, max_frame, expects_items: false }, streams: None }
    }

    /// Sets the streams of the call. An accepted call is answered with the END of its stream.
    #[must_use]
    pub fn with_streams(mut self, streams: Arc<CallStreams>) -> Self {
        self.target.expects_items = streams.credit().is_some();
        self.streams = Some(streams);
        self
    }

    /// Returns the streams of the call.
    pub fn streams(&self) -> Option<&Arc<CallStreams>> {
        self.streams.as_ref()
    }

    /// Returns the id of the request.
    pub fn id(&self) -> u32 {
        self.target.id
    }

    /// Answers with a stored answer, unless the call has an answer.
    ///
    /// Returns `false` without an effect if the connection has no capacity. The connection shares the bytes of a long
    /// answer.
    pub fn try_replay(&self, context: &Context, answer: &StoredAnswer) -> bool {
        let pushed = self.outbox.push_to(self.queue_of(answer), |_, out| {
            if context.claim_answer(Code::Ok) {
                answer.write(out, self.target.id);
            }
        });
        pushed != Err(PushError::Full)
    }

    /// Waits for capacity, then answers with a stored answer, unless the call has an answer.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time; the answer is then not sent.
    pub async fn replay(&self, context: &Context, answer: &StoredAnswer) {
        let queue = self.queue_of(answer);
        // The bytes are shared, so they do not wait with this task.
        let turn = Arc::clone(&self.outbox).capacity(queue.priority()).await;
        let pushed = turn.push_to(queue, |_, out| {
            if context.claim_answer(Code::Ok) {
                answer.write(out, self.target.id);
            }
        });
        // On a closed connection the caller receives the connection's error instead.
        debug_assert!(pushed != Err(PushError::Full), "this is not an outbox of results");
    }

    /// Answers with a status and no value, unless the call has an answer.
    pub fn answer_status(&self, context: &Context, answer: &StatusAnswer) {
        self.outbox.answer_status(&self.target, context, answer);
    }

    /// Answers a call, whose answer was claimed, with a status and no value.
    pub fn answer_claimed(&self, context: &Context, answer: &StatusAnswer) {
        // On a closed connection the caller receives the connection's error instead.
        let _ = push_status(&self.outbox, &self.target, |out| {
            answer::write_status(out, answer::frame_type(&self.target, context), &self.target, None, answer);
        });
    }

    fn queue_of(&self, answer: &StoredAnswer) -> SendQueue {
        SendQueue::of_length(answer.as_bytes().len(), self.target.id)
    }

    /// Answers with a status and no value without claiming the answer of the call.
    pub fn answer_unclaimed(&self, answer: &StatusAnswer) {
        // On a closed connection the caller receives the connection's error instead.
        let _ = self.outbox.push_control(|out| {
            answer::write_status(out, FrameType::Response, &self.target, None, answer);
        });
    }
}

impl AnswerSink for Outbox {
    fn try_answer(&self, target: &AnswerTarget, context: &Context, answer: &mut EncodedAnswer) -> bool {
        self.push_to(queue_of(target, answer), |_, out| append(out, target, context, answer)) != Err(PushError::Full)
    }

    fn has_capacity(&self) -> bool {
        self.has_capacity(Priority::Interactive)
    }

    fn is_short(&self, target: &AnswerTarget, answer: &EncodedAnswer) -> bool {
        queue_of(target, answer) == SendQueue::Interactive
    }

    fn is_unlimited(&self) -> bool {
        false
    }

    fn turn(
        self: Arc<Self>,
        target: &AnswerTarget,
        answer: Option<&EncodedAnswer>,
    ) -> BoxFuture<'static, Option<Box<dyn AnswerTurn>>> {
        let priority = answer.map_or(Priority::Interactive, |answer| queue_of(target, answer).priority());
        let waiting = if priority == Priority::Bulk { answer.map_or(0, EncodedAnswer::len) } else { 0 };
        Box::pin(async move {
            let turn = self.capacity_for(priority, waiting).await;
            (!turn.is_closed()).then(|| Box::new(turn) as Box<dyn AnswerTurn>)
        })
    }

    fn answer_status(&self, target: &AnswerTarget, context: &Context, answer: &StatusAnswer) {
        claim(self, target, context, answer.status.code(), |out| {
            let frame_type = answer::frame_type(target, context);
            answer::write_status(out, frame_type, target, context.inserted_response_metadata().as_ref(), answer);
        });
    }
}

impl AnswerTurn for OutboxTurn {
    fn answer(self: Box<Self>, target: &AnswerTarget, context: &Context, mut answer: EncodedAnswer) {
        let queue = queue_of(target, &answer);
        let pushed = self.push_to(queue, |_, out| append(out, target, context, &mut answer));
        // On a closed connection the caller receives the connection's error instead.
        debug_assert!(pushed != Err(PushError::Full), "this is not an outbox of results");
    }
}

/// Returns the queue of an answer: that of its call if it is long, or if the items of the call precede it.
fn queue_of(target: &AnswerTarget, answer: &EncodedAnswer) -> SendQueue {
    if target.expects_items { SendQueue::Bulk(target.id) } else { SendQueue::of_length(answer.len(), target.id) }
}

/// Appends an answer and claims it, unless the call has an answer.
///
/// Called under the outbox's lock and with capacity, so that a claimed answer is sent.
fn append(out: &mut WriteBuffer, target: &AnswerTarget, context: &Context, answer: &mut EncodedAnswer) {
    if context.is_answered() {
        return;
    }
    let start = out.mark();
    let metadata = context.inserted_response_metadata();
    let code = answer::write(out, answer::frame_type(target, context), target, metadata.as_ref(), answer);
    if !context.claim_answer(code) {
        out.rewind(start);
    }
}

/// Claims the answer of a call, and appends it if the call had none.
fn claim(outbox: &Outbox, target: &AnswerTarget, context: &Context, code: Code, write: impl FnOnce(&mut BytesMut)) {
    // Claimed under the outbox's lock: a connection that waits for its last answer must not find it claimed but not
    // appended.
    let _ = push_status(outbox, target, |out| {
        if context.claim_answer(code) {
            write(out);
        }
    });
}

/// Appends an answer without a value, behind the items of the call.
fn push_status(outbox: &Outbox, target: &AnswerTarget, write: impl FnOnce(&mut BytesMut)) -> Result<(), PushError> {
    if target.expects_items { outbox.push_control_behind(target.id, write) } else { outbox.push_control(write) }
}

impl Responder {
    /// Creates a responder that answers over a connection.
    pub fn wire(context: Context, sink: WireSink) -> Self {
        Self::new(context, sink.outbox, sink.target)
    }

    /// Creates the responder of a call with streams.
    pub fn streams(context: Context, sink: WireSink, streams: WireStreams) -> Self {
        Self::with_streams(context, sink.outbox, sink.target, Box::new(streams))
    }

    /// Creates a responder that passes the answer on instead of sending it, or the rejection of the call as an error.
    ///
    /// Of `sink`, only the format is used.
    pub fn store(
        context: Context,
        sink: WireSink,
        answer: oneshot::Sender<Result<StoredAnswer, StatusAnswer>>,
    ) -> Self {
        Self::new(context, Arc::new(AnswerStore::new(answer)), sink.target)
    }
}

impl StoredAnswer {
    /// Creates an answer that consists of a status, in the format of `sink`.
    pub fn status(sink: &WireSink, status: Status) -> Self {
        Self::from_status(&sink.target, None, &StatusAnswer::handled(status))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf as _;

    use super::*;
    use crate::{
        Metadata, WriteBuffer,
        frame::{FrameType, HEADER_LEN},
    };

    fn stored(length: usize) -> StoredAnswer {
        let mut frame = BytesMut::zeroed(length);
        let header = Header { full_length: length as u32, ..Header::empty(FrameType::Response, 0) };
        frame[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        StoredAnswer::from_bytes(frame.freeze()).unwrap()
    }

    #[test]
    fn replays_share_bytes_and_respect_the_limit() {
        let outbox = Arc::new(Outbox::new(1000).for_results());
        let replay = |id, answer: &StoredAnswer| {
            let context = Context::new(Arc::default(), None, Metadata::default(), None);
            let sink = WireSink::new(Arc::clone(&outbox), &Header::empty(FrameType::Request, id), 1 << 20);
            (sink.try_replay(&context, answer), context.is_answered())
        };
        let answer = stored(1 << 20);
        assert_eq!(replay(7, &answer), (true, true));
        assert_eq!(replay(8, &answer), (false, false), "the outbox is full");
        let mut written = outbox.take(WriteBuffer::new());
        assert_eq!(
            written.chunk(),
            Header { full_length: 1 << 20, ..Header::empty(FrameType::Response, 7) }.to_bytes()
        );
        written.advance(HEADER_LEN);
        assert_eq!(written.chunk().as_ptr(), answer.as_bytes()[HEADER_LEN..].as_ptr(), "the bytes are not copied");
        outbox.written((1 << 20) - 999);
        assert_eq!(replay(8, &answer), (true, true), "999 bytes wait");
    }
}
