//! [`AnswerSink`]: the destination of answers, independent of the wire; [`EncodedAnswer`]: an answer before it is sent.

use std::sync::Arc;

use super::encoding::offload;
use crate::{BoxFuture, Code, Codec, Compression, Context, Encode, EncodedPayload, Peer, Status, StatusAnswer};

/// The destination of the answers to calls, such as the outbox of a connection.
///
/// One sink serves all calls of a connection, so that a [`Responder`](crate::Responder) costs no allocation. An
/// [`AnswerTarget`] identifies the call.
pub(crate) trait AnswerSink: Send + Sync {
    /// Sends `answer` and takes its payload, unless the call has an answer.
    ///
    /// Returns `false` without an effect if the sink has no capacity.
    fn try_answer(&self, target: &AnswerTarget, context: &Context, answer: &mut EncodedAnswer) -> bool;

    /// Returns whether [`try_answer`](Self::try_answer) will probably find capacity.
    fn has_capacity(&self) -> bool;

    /// Returns whether answers never wait for capacity.
    fn is_unlimited(&self) -> bool;

    /// Waits for capacity: for the encoded `answer`, which waits with this task, or for a short one. Returns `None` if no
    /// answer can be sent any more.
    ///
    /// Tasks receive their turns in the order in which they started to wait.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time: the turn passes to the next task.
    fn turn(
        self: Arc<Self>,
        target: &AnswerTarget,
        answer: Option<&EncodedAnswer>,
    ) -> BoxFuture<'static, Option<Box<dyn AnswerTurn>>>;

    /// Returns whether this answer waits for the capacity for short ones.
    fn is_short(&self, target: &AnswerTarget, answer: &EncodedAnswer) -> bool;

    /// Answers with a status and no value, unless the call has an answer.
    ///
    /// The sink always has capacity for this.
    fn answer_status(&self, target: &AnswerTarget, context: &Context, answer: &StatusAnswer);
}

/// The right of one task to send an answer before those that wait for capacity.
///
/// # Drop
///
/// Dropping it passes the turn to the next task.
pub(crate) trait AnswerTurn: Send {
    /// Sends `answer`, unless the call has an answer.
    fn answer(self: Box<Self>, target: &AnswerTarget, context: &Context, answer: EncodedAnswer);
}

/// One call of an [`AnswerSink`], and the format of its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerTarget {
    /// The id of the request.
    pub(crate) id: u32,
    /// The codec of the request.
    pub(crate) codec: u8,
    /// The compression of the answer.
    pub(crate) compression: u8,
    /// The longest frame that may be sent, in bytes.
    pub(crate) max_frame: usize,
    /// Whether the caller expects items, so that the answer of an accepted call is the end of its stream.
    pub(crate) expects_items: bool,
}

/// An answer that was encoded and is not sent yet.
#[derive(Debug)]
pub(crate) struct EncodedAnswer {
    pub(crate) status: Status,
    /// The result or the error value, unless it failed to encode.
    pub(crate) payload: Option<EncodedPayload>,
}

impl EncodedAnswer {
    /// Encodes a result or an error value; if it does not encode, the answer is the status of that failure.
    ///
    /// Does not compress it if that takes long.
    #[inline]
    pub(crate) fn new<T: Encode>(target: &AnswerTarget, status: Status, value: &T) -> Self {
        let encoded = Codec::from_u8(target.codec).and_then(|codec| {
            let compression = Compression::from_u8(target.compression)?;
            let payload = EncodedPayload::uncompressed(value, codec, compression)?;
            Ok(if payload.is_long_to_compress() { payload } else { payload.compressed() })
        });
        match encoded {
            Ok(payload) => Self { status, payload: Some(payload) },
            Err(failed) => Self::unsendable(&failed),
        }
    }

    /// Returns the length of the value, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.payload.as_ref().map_or(0, EncodedPayload::len)
    }

    /// Releases the memory that the value does not need, because the answer will be kept for a while.
    pub(crate) fn shrink(&mut self) {
        if let Some(payload) = &mut self.payload {
            payload.shrink();
        }
    }

    /// Returns whether the value is still to be compressed.
    pub(crate) fn is_long_to_compress(&self) -> bool {
        self.payload.as_ref().is_some_and(EncodedPayload::is_long_to_compress)
    }

    /// Compresses the value on a thread for blocking work, if that is still to be done.
    pub(crate) async fn compressed(self, peer: &Peer) -> Self {
        let Self { status, payload: Some(payload) } = self else { return self };
        match offload(peer.work(), move || payload.compressed()).await {
            Ok(payload) => Self { status, payload: Some(payload) },
            Err(failed) => Self::unsendable(&failed),
        }
    }

    /// Returns the answer to a call whose handler executed and whose own answer cannot be sent.
    pub(crate) fn unsendable(failed: &Status) -> Self {
        // The handler executed, so a value that does not encode is the callee's fault and not the caller's; and
        // `Unimplemented`, for a format that this build does not support, would state that it did not execute.
        let code = match failed.code() {
            Code::InvalidArgument | Code::Unimplemented | Code::Unavailable => Code::Internal,
            code => code,
        };
        Self { status: Status::new(code, failed.message().to_owned()), payload: None }
    }
}
