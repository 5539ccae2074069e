//! [`WireStreams`]: the streams of a call for its handler.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{BufMut, Bytes};

use super::{
    call_streams::CallStreams,
    item_sender::{ItemSender, SendEnd},
    queue::ItemQueue,
    reader::{ItemReader, StreamReader},
};
use crate::{
    BoxFuture, CalleeStreams, Code, Codec, Compression, Context, Error, ItemSource, Metadata, Payload, PeerWork,
    ReceivedItems, Reply, Sent, Status,
    frame::{Frame, FrameType, HEADER_LEN, Header, put_number},
    head::ResponseHead,
    transport::Outbox,
};

/// The streams of a call on a connection, for its handler.
pub struct WireStreams {
    outbox: Arc<Outbox>,
    streams: Arc<CallStreams>,
    /// The items of the caller, until the handler takes them.
    received: Mutex<Option<Arc<ItemQueue>>>,
    context: Context,
    codec: u8,
    compression: u8,
    max_frame: usize,
    max_decompressed: usize,
}

impl WireStreams {
    /// Creates the streams of the call with this header and context.
    pub fn new(
        outbox: Arc<Outbox>,
        streams: Arc<CallStreams>,
        context: Context,
        header: &Header,
        max_frame: usize,
        max_decompressed: usize,
    ) -> Self {
        let received = Mutex::new(streams.received().map(Arc::clone));
        let Header { codec, compression, .. } = *header;
        Self { outbox, streams, received, context, codec, compression, max_frame, max_decompressed }
    }
}

impl CalleeStreams for WireStreams {
    fn take_received(&self) -> Option<Box<dyn ReceivedItems>> {
        let queue = self.received.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let caller = Caller {
            outbox: Arc::clone(&self.outbox),
            id: self.streams.id(),
            context: self.context.clone(),
            codec: self.codec,
            max_decompressed: self.max_decompressed,
        };
        Some(Box::new(ItemReader::new(queue, caller)))
    }

    fn accept(&self, context: &Context) -> bool {
        // Under the outbox's lock: an answer that is claimed at the same time is written either instead of the acceptance,
        // as a RESPONSE, or behind it, as an END.
        let accepted = self.outbox.push_control(|out| {
            if context.is_answered() {
                return false;
            }
            let metadata = context.accept();
            self.streams.accept();
            let start = out.len();
            out.put_bytes(0, HEADER_LEN);
            ResponseHead { status: Status::OK, metadata, retry_after: None, not_executed: false }.write(out);
            let full_length = (out.len() - start) as u32;
            let header =
                Header { full_length, codec: self.codec, ..Header::empty(FrameType::Response, self.streams.id()) };
            out[start..start + HEADER_LEN].copy_from_slice(&header.to_bytes());
            true
        });
        accepted.unwrap_or(false)
    }

    fn send<'a>(&'a self, context: &'a Context, source: &'a mut (dyn ItemSource + 'a)) -> BoxFuture<'a, Sent> {
        Box::pin(async move {
            let formats =
                Codec::from_u8(self.codec).and_then(|codec| Ok((codec, Compression::from_u8(self.compression)?)));
            let (codec, compression) = match formats {
                Ok(formats) => formats,
                Err(status) => return Sent::Failed(Status::internal(status.message().to_owned())),
            };
            let Some(credit) = self.streams.credit() else {
                return Sent::Failed(Status::internal("the caller expects no items"));
            };
            let sender = ItemSender {
                outbox: Arc::clone(&self.outbox),
                credit: Arc::clone(credit),
                id: self.streams.id(),
                frame_type: FrameType::CalleeItem,
                codec,
                compression,
                max_frame: self.max_frame,
                work: context.peer().work().clone(),
            };
            match sender.send(source, || {}, || context.is_answered()).await {
                SendEnd::All => Sent::All,
                SendEnd::Ended => Sent::Ended,
                SendEnd::Failed(status) => Sent::Failed(status),
            }
        })
    }
}

impl fmt::Debug for WireStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireStreams").field("streams", &self.streams).finish_non_exhaustive()
    }
}

/// The caller, for the reader of its items.
struct Caller {
    outbox: Arc<Outbox>,
    id: u32,
    context: Context,
    codec: u8,
    max_decompressed: usize,
}

impl StreamReader for Caller {
    fn grant(&mut self, credit: u32) {
        let _ = self.outbox.push_control(|out| {
            // After the end of the call, the id may be that of another one.
            if !self.context.is_answered() {
                put_number(out, FrameType::CalleeCredit, self.id, credit);
            }
        });
    }

    fn read_end(&mut self, _: Frame) -> Result<Reply, Error> {
        Err(Error::unknown(Code::Internal, "the caller has ended its stream with a status"))
    }

    fn finished(&mut self) -> Reply {
        let compression = Compression::None as u8;
        let payload = Payload { codec: self.codec, compression, bytes: Bytes::new(), max_decompressed: 0 };
        Reply { is_application_error: false, metadata: Metadata::default(), payload, peer: None, items: None }
    }

    fn max_decompressed(&self) -> usize {
        self.max_decompressed
    }

    fn is_draining(&self) -> bool {
        false
    }

    fn work(&self) -> PeerWork {
        self.context.peer().work().clone()
    }

    fn abandon(&mut self) {}
}
