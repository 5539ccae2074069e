//! [`AnswerSink`]: the destination of answers, independent of the wire.

use crate::{BoxFuture, Context, Encode, Status, StatusAnswer};

/// The destination of the answers to calls, such as the outbox of a connection.
///
/// One sink serves all calls of a connection, so that a [`Responder`](crate::Responder) costs no allocation. An
/// [`AnswerTarget`] identifies the call.
pub(crate) trait AnswerSink: Send + Sync {
    /// Answers with a status and a value, unless the call has an answer.
    ///
    /// Returns `false` without an effect if the sink has no capacity.
    fn try_answer(&self, target: &AnswerTarget, context: &Context, status: &Status, value: &dyn Encode) -> bool;

    /// Waits until [`try_answer`](Self::try_answer) may succeed.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    fn capacity(&self) -> BoxFuture<'_, ()>;

    /// Answers with a status and no value, unless the call has an answer.
    ///
    /// The sink always has capacity for this.
    fn answer_status(&self, target: &AnswerTarget, context: &Context, answer: &StatusAnswer);
}

/// One call of an [`AnswerSink`], and the format of its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerTarget {
    /// The id of the request.
    pub(crate) id: u32,
    /// The codec of the request.
    pub(crate) codec: u8,
    /// The compression of the request.
    pub(crate) compression: u8,
    /// The longest frame that may be sent, in bytes.
    pub(crate) max_frame: usize,
}
