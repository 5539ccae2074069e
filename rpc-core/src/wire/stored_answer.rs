//! [`StoredAnswer`]: an answer that a server keeps for repeated requests.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::oneshot;

use super::{
    answer,
    frame::{FrameType, HEADER_LEN, Header, ID_AT},
};
use crate::{
    AnswerSink, AnswerTarget, AnswerTurn, BoxFuture, Code, Context, EncodedAnswer, Metadata, Status, StatusAnswer,
    WriteBuffer,
};

/// An encoded answer, kept so that repeated requests of a once call receive the same answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer(Bytes);

impl StoredAnswer {
    /// Reads an answer from the bytes in a store.
    ///
    /// # Errors
    ///
    /// `DataLoss` if the bytes are not an answer.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, Status> {
        let header = bytes.first_chunk().and_then(|header| Header::parse(header).ok());
        let complete = header
            .filter(|header| header.frame_type == FrameType::Response && header.full_length as usize == bytes.len());
        complete.map(|_| Self(bytes)).ok_or_else(|| Status::new(Code::DataLoss, "the stored answer is damaged"))
    }

    /// Returns the answer as bytes for a store: a RESPONSE frame of docs/PROTOCOL.md with id 0.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    pub(crate) fn from_status(target: &AnswerTarget, metadata: Option<&Metadata>, answer: &StatusAnswer) -> Self {
        let mut frame = BytesMut::new();
        answer::write_status(&mut frame, FrameType::Response, target, metadata, answer);
        Self(frame.freeze())
    }

    /// Appends the answer with the id of another request. A long answer is shared and not copied.
    pub(crate) fn write(&self, out: &mut WriteBuffer, id: u32) {
        out.copied().put_slice(&self.0[..ID_AT]);
        out.copied().put_u32(id);
        out.put_shared(self.0.slice(HEADER_LEN..));
    }
}

/// Receives the answer to one call and passes it on as a [`StoredAnswer`], and a rejection as it is.
pub(crate) struct AnswerStore(Mutex<Option<oneshot::Sender<Result<StoredAnswer, StatusAnswer>>>>);

impl AnswerStore {
    pub(crate) fn new(sender: oneshot::Sender<Result<StoredAnswer, StatusAnswer>>) -> Self {
        Self(Mutex::new(Some(sender)))
    }

    fn store(&self, answer: Result<StoredAnswer, StatusAnswer>) {
        if let Some(sender) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Sending fails if the server has dropped the receiver.
            let _ = sender.send(answer);
        }
    }
}

impl AnswerSink for AnswerStore {
    fn try_answer(&self, target: &AnswerTarget, context: &Context, answer: &mut EncodedAnswer) -> bool {
        let mut frame = WriteBuffer::new();
        let code = answer::write(
            &mut frame,
            FrameType::Response,
            target,
            context.inserted_response_metadata().as_ref(),
            answer,
        );
        if context.claim_answer(code) {
            self.store(Ok(StoredAnswer(frame.into_bytes())));
        }
        true
    }

    fn has_capacity(&self) -> bool {
        true
    }

    fn is_unlimited(&self) -> bool {
        true
    }

    fn is_short(&self, _: &AnswerTarget, _: &EncodedAnswer) -> bool {
        true
    }

    fn turn(
        self: Arc<Self>,
        _: &AnswerTarget,
        _: Option<&EncodedAnswer>,
    ) -> BoxFuture<'static, Option<Box<dyn AnswerTurn>>> {
        let turn: Box<dyn AnswerTurn> = Box::new(StoreTurn(self));
        Box::pin(std::future::ready(Some(turn)))
    }

    fn answer_status(&self, target: &AnswerTarget, context: &Context, answer: &StatusAnswer) {
        if context.claim_answer(answer.status.code()) {
            // A rejection is not the answer of the call, which may execute later.
            self.store(if answer.not_executed {
                Err(answer.clone())
            } else {
                Ok(StoredAnswer::from_status(target, context.inserted_response_metadata().as_ref(), answer))
            });
        }
    }
}

/// The turn at a store, which takes an answer at any time.
struct StoreTurn(Arc<AnswerStore>);

impl AnswerTurn for StoreTurn {
    fn answer(self: Box<Self>, target: &AnswerTarget, context: &Context, mut answer: EncodedAnswer) {
        self.0.try_answer(target, context, &mut answer);
    }
}
