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
    Code, Codec, Compression, ItemSource, Mark, PeerWork, Status, WriteBuffer,
    contract::{LONG, offload},
    frame::{FrameType, HEADER_LEN, Header},
    transport::{Outbox, OutboxTurn, Priority, PushError, SendQueue},
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
    /// The place in the line for long work of the peer.
    pub work: PeerWork,
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
    /// The last item, if its compression takes long and is still to be done.
    long: Option<Mark>,
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
        let mut batch = Batch { frames: WriteBuffer::new(), cost: 0, long: None, end: None };
        loop {
            let Some(credit) = poll_fn(|cx| self.credit.poll_positive(cx)).await else { return self.without_credit() };
            // An item waits as a value while the outbox is full: a peer that does not read costs no encoding.
            let mut turn = None;
            if !self.outbox.has_capacity(Priority::Bulk) {
                turn = self.turn().await;
                if turn.is_none() {
                    return SendEnd::Ended;
                }
            }
            let filled = poll_fn(|cx| {
                let filled = self.poll_fill(&mut batch, source, credit, cx);
                if filled.is_pending() {
                    // Others use the capacity while the source has no item.
                    turn = None;
                }
                filled
            });
            if filled.await.is_none() {
                return SendEnd::Ended;
            }
            if batch.cost > 0 {
                on_item();
                self.credit.spend(std::mem::take(&mut batch.cost));
            }
            if batch.long.is_some() {
                turn = None;
            }
            if let Some(start) = batch.long.take()
                && let Err(status) = self.compress_long(&mut batch.frames, start).await
            {
                batch.end = Some(SendEnd::Failed(status));
            }
            if !batch.frames.is_empty() && !self.append(turn, &mut batch.frames, &is_over).await {
                return SendEnd::Ended;
            }
            if let Some(end) = batch.end.take() {
                return end;
            }
            coop::consume_budget().await;
        }
    }

    /// Returns how the stream ends when it has no credit and never will have.
    fn without_credit(&self) -> SendEnd {
        if self.credit.is_closed() {
            return SendEnd::Ended;
        }
        let message = "the peer has closed its sending side, so that it grants no credit for the next item";
        SendEnd::Failed(Status::new(Code::Cancelled, message))
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
            if batch.end.is_some() || batch.long.is_some() {
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
        if let Err(error) = encoded {
            out.rewind(start);
            let name = self.codec.name();
            let message = format!("an item of the stream does not encode as {name}: {error}");
            return Poll::Ready(Some(Err(Status::internal(message))));
        }
        let plain = out.length_since(start) - HEADER_LEN;
        if self.compression != Compression::None && plain >= LONG {
            batch.long = Some(start);
            return Poll::Ready(Some(Ok(Credit::cost(plain))));
        }
        let compression = match self.compression {
            Compression::None => Compression::None,
            wanted => out.compress_since(start, HEADER_LEN, wanted),
        };
        Poll::Ready(Some(self.write_header(out, start, compression).map(|()| Credit::cost(plain))))
    }

    /// Compresses an item outside of the tasks of the runtime, and writes its header.
    async fn compress_long(&self, out: &mut WriteBuffer, start: Mark) -> Result<(), Status> {
        let (mut frames, wanted) = (std::mem::take(out), self.compression);
        let compressed = offload(&self.work, move || {
            let compression = frames.compress_since(start, HEADER_LEN, wanted);
            (frames, compression)
        });
        let compression;
        (*out, compression) = compressed.await?;
        self.write_header(out, start, compression)
    }

    /// Writes the header of the last frame, or removes the frame if it is too long.
    fn write_header(&self, out: &mut WriteBuffer, start: Mark, compression: Compression) -> Result<(), Status> {
        let length = out.length_since(start);
        let Some(full_length) = u32::try_from(length).ok().filter(|_| length <= self.max_frame) else {
            out.rewind(start);
            let limit = self.max_frame;
            let message = format!("item frame is {length} bytes, limit is {limit} (TransportConfig::max_frame)");
            return Err(Status::new(Code::ResourceExhausted, message));
        };
        let (codec, compression) = (self.codec as u8, compression as u8);
        let header = Header { full_length, frame_type: self.frame_type, codec, compression, id: self.id };
        out.copied_since(start)[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        Ok(())
    }

    /// Waits for a turn at the outbox; `None` when the call has ended.
    async fn turn(&self) -> Option<OutboxTurn> {
        let mut capacity = pin!(Arc::clone(&self.outbox).capacity(Priority::Bulk));
        poll_fn(|cx| match capacity.as_mut().poll(cx) {
            Poll::Ready(turn) => Poll::Ready(Some(turn)),
            Poll::Pending => self.credit.poll_closed(cx).map(|()| None),
        })
        .await
    }

    /// Appends frames to the outbox, with a turn if there is one. Returns false when the call or the connection has ended.
    async fn append(
        &self,
        mut turn: Option<OutboxTurn>,
        frames: &mut WriteBuffer,
        is_over: &impl Fn() -> bool,
    ) -> bool {
        frames.hold_long_copies(BATCH);
        let queue = SendQueue::Bulk(self.id);
        loop {
            let mut append = |out: &mut WriteBuffer| {
                let is_live = !is_over();
                if is_live {
                    out.append(frames);
                }
                is_live
            };
            let pushed = match turn.take() {
                Some(turn) => turn.push_to(queue, |_, out| append(out)),
                None => self.outbox.push_to(queue, |_, out| append(out)),
            };
            match pushed {
                Err(PushError::Full) => turn = self.turn().await,
                pushed => return pushed == Ok(true),
            }
            if turn.is_none() {
                return false;
            }
        }
    }
}

/// The length from which frames are appended to the outbox, in bytes.
const BATCH: usize = 16 << 10;
