//! [`Callee`]: the callee of a call, for the reader of its items.

use std::sync::Arc;

use bytes::Bytes;
use rpc_core::{
    Code, Codec, Compression, Error, Payload, PeerWork, Phase as CallPhase, Reply, Status, StatusAnswer,
    frame::{Frame, FrameType, put_number},
    head::ResponseHead,
    transport::{Outbox, StreamReader},
};

use super::table::{CallTable, Phase};

/// The callee of a call, for the reader of its items.
pub(super) struct Callee {
    pub(super) table: Arc<CallTable>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) id: u32,
}

impl StreamReader for Callee {
    fn grant(&mut self, credit: u32) {
        let _ = self.outbox.push_control(|out| put_number(out, FrameType::CallerCredit, self.id, credit));
    }

    fn read_end(&mut self, frame: Frame) -> Result<Reply, Error> {
        read_response(frame)
    }

    fn finished(&mut self) -> Reply {
        no_answer()
    }

    fn max_decompressed(&self) -> usize {
        0
    }

    fn is_draining(&self) -> bool {
        self.table.phase() != Phase::Open
    }

    fn work(&self) -> PeerWork {
        PeerWork::default()
    }

    fn abandon(&mut self) {
        let status = Status::cancelled("the reader of the stream was dropped");
        self.table.cancel(self.id, status, &self.outbox);
    }
}

/// Returns the reply of a one-way call, which has no answer.
pub(super) fn no_answer() -> Reply {
    let (codec, compression) = (Codec::Raw as u8, Compression::None as u8);
    let payload = Payload { codec, compression, bytes: Bytes::new(), max_decompressed: 0 };
    Reply { is_application_error: false, metadata: Default::default(), payload, peer: None, items: None }
}

/// Returns the reply or the error in a RESPONSE, or in the END of a stream.
pub(super) fn read_response(frame: Frame) -> Result<Reply, Error> {
    let Frame { header, mut body } = frame;
    let head = ResponseHead::take(&mut body).map_err(|_| {
        // The callee is this program.
        Error::answered(Code::Internal, "the head of the response is malformed").with_phase(CallPhase::Decode)
    })?;
    let is_application_error = match head.status.code() {
        Code::Ok => false,
        Code::Application => true,
        _ => {
            let ResponseHead { status, metadata, retry_after, not_executed } = head;
            let status = retry_after.into_iter().fold(status, Status::with_retry_after);
            return Err(Error::from_answer(StatusAnswer { status, not_executed }).with_metadata(metadata));
        }
    };
    let payload = Payload { codec: header.codec, compression: header.compression, bytes: body, max_decompressed: 0 };
    Ok(Reply { is_application_error, metadata: head.metadata, payload, peer: None, items: None })
}
