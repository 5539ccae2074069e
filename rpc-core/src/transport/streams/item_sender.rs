//! [`ItemSender`]: sends the items of a stream.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{self, Poll},
};

use tokio::task::coop;

use super::credit::Credit;
use crate::{
    Codec, Compression, ItemSource, Status, WriteBuffer,
    frame::{FrameType, HEADER_LEN, Header},
    transport::{Outbox, PushError},
};

/// Sends the items of one stream, as far as the peer grants credit.
#[derive(Debug)]
pub struct ItemSender {
    /// The output of the connection.
    pub outbox: Arc<Outbox>,
    /// The credit for the items.
    pub credit: Arc<Credit>,
    /// The id of the call.
    pub id: u32,
    /// The type of the frames of items.
    pub frame_type: FrameType,
    /// The codec of the items.
    pub codec: Codec,
    /// The compression that is tried for each item.
    pub compression: Compression,
    /// The longest frame that may be sent, in bytes.
    pub max_frame: usize,
}

/// How the sending of items ended.
#[derive(Debug)]
pub enum SendEnd {
    /// The source has no more items.
    All,
    /// The call or the connection has ended.
    Ended,
    /// An item cannot be sent.
    Failed(Status),
}

/// The frames of several items, which are appended to the outbox at once.
struct Batch {
    frames: WriteBuffer,
    /// The cost of the items.
    cost: u64,
    /// How the sending ends after these items.
    end: Option<SendEnd>,
}

impl ItemSender {
    /// Sends the items of `source`. `on_item` is called when items were taken from the source.
    ///
    /// `is_over` is called under the lock of the outbox; if it returns true, nothing more is sent.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, items that were taken from the source may be lost. The stream must then end early.
    pub async fn send(
        &self,
        source: &mut (impl ItemSource + ?Sized),
        on_item: impl Fn(),
        is_over: impl Fn() -> bool,
    ) -> SendEnd {
        let mut batch = Batch { frames: WriteBuffer::new(), cost: 0, end: None };
        loop {
            let Some(credit) = poll_fn(|cx| self.credit.poll_positive(cx)).await else { return SendEnd::Ended };
            if poll_fn(|cx| self.poll_fill(&mut batch, source, credit, cx)).await.is_none() {
                return SendEnd::Ended;
            }
            if !batch.frames.is_empty() {
                on_item();
                self.credit.spend(std::mem::take(&mut batch.cost));
                if !self.append(&mut batch.frames, &is_over).await {
                    return SendEnd::Ended;
                }
            }
            if let Some(end) = batch.end.take() {
                return end;
            }
            coop::consume_budget().await;
        }
    }

    /// Encodes items until the source has none, the credit is spent or the batch is long. `None` when the call has ended.
    fn poll_fill(
        &self,
        batch: &mut Batch,
        source: &mut (impl ItemSource + ?Sized),
        credit: i64,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<()>> {
        while (batch.cost as i64) < credit && batch.frames.len() < BATCH {
            match self.poll_encode(batch, source, cx) {
                Poll::Ready(Some(Ok(cost))) => batch.cost += cost,
                Poll::Ready(Some(Err(status))) => batch.end = Some(SendEnd::Failed(status)),
                Poll::Ready(None) => batch.end = Some(SendEnd::All),
                Poll::Pending if batch.frames.is_empty() => {
                    return self.credit.poll_closed(cx).map(|()| None);
                }
                Poll::Pending => break,
            }
            if batch.end.is_some() {
                break;
            }
        }
        Poll::Ready(Some(()))
    }

    /// Appends the frame of the next item to the batch. Returns its cost.
    fn poll_encode(
        &self,
        batch: &mut Batch,
        source: &mut (impl ItemSource + ?Sized),
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<u64, Status>>> {
        let out = &mut batch.frames;
        // Compression needs an item as one contiguous slice.
        out.copy_all(self.compression != Compression::None);
        let start = out.mark();
        out.copied().extend_from_slice(&[0; HEADER_LEN]);
        let encoded = match source.poll_encode(cx, self.codec, out) {
            Poll::Ready(Some(encoded)) => encoded,
            other => {
                out.rewind(start);
                return other.map(|_| None);
            }
        };
        Poll::Ready(Some(self.frame(out, start, encoded)))
    }

    fn frame(
        &self,
        out: &mut WriteBuffer,
        start: crate::Mark,
        encoded: Result<(), crate::CodecError>,
    ) -> Result<u64, Status> {
        let name = self.codec.name();
        if let Err(error) = encoded {
            out.rewind(start);
            return Err(Status::internal(format!("an item of the stream does not encode as {name}: {error}")));
        }
        let plain = out.length_since(start) - HEADER_LEN;
        let compression = match self.compression {
            Compression::None => Compression::None,
            wanted => out.compress_since(start, HEADER_LEN, wanted),
        };
        let length = out.length_since(start);
        let Some(full_length) = u32::try_from(length).ok().filter(|_| length <= self.max_frame) else {
            out.rewind(start);
            let limit = self.max_frame;
            let message = format!("item frame is {length} bytes, limit is {limit} (TransportConfig::max_frame)");
            return Err(Status::new(crate::Code::ResourceExhausted, message));
        };
        let (codec, compression) = (self.codec as u8, compression as u8);
        let header = Header { full_length, frame_type: self.frame_type, codec, compression, id: self.id };
        out.copied_since(start)[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        Ok(Credit::cost(plain))
    }

    /// Waits for capacity and appends frames to the outbox. Returns false when the call or the connection has ended.
    async fn append(&self, frames: &mut WriteBuffer, is_over: &impl Fn() -> bool) -> bool {
        frames.hold_long_copies(BATCH);
        let mut append = |out: &mut WriteBuffer| {
            let is_live = !is_over();
            if is_live {
                out.append(frames);
            }
            is_live
        };
        let mut pushed = self.outbox.push(&mut append);
        while pushed == Err(PushError::Full) {
            let mut capacity = pin!(Arc::clone(&self.outbox).capacity());
            let turn = poll_fn(|cx| match capacity.as_mut().poll(cx) {
                Poll::Ready(turn) => Poll::Ready(Some(turn)),
                Poll::Pending => self.credit.poll_closed(cx).map(|()| None),
            });
            let Some(turn) = turn.await else { return false };
            pushed = turn.push_at(|_, out| append(out));
        }
        pushed == Ok(true)
    }
}

/// The length from which frames are appended to the outbox, in bytes.
const BATCH: usize = 16 << 10;
