//! [`Outbound`]: what waits to be written to one client, and what happens to one that does not read.

use std::sync::Arc;

use crate::{
    envelope::{Lagging, ServerFrame},
    session::queue::{Queue, Refusal},
};

/// What a node has to say to one session; its reader writes it to the WebSocket.
///
/// At most [`MAX_FRAMES`](Self::MAX_FRAMES) frames or [`MAX_BYTES`](Self::MAX_BYTES) wait. Over that, the messages among them are dropped
/// and one `Lagging` stands for them: the client asks for what it missed. One who does not even read answers to its own requests
/// is closed.
#[derive(Debug)]
pub struct Outbound(pub(crate) Arc<Outbox>);

/// The end of an [`Outbound`] into which the node writes.
pub(crate) struct Outbox(Queue<Arc<ServerFrame>>);

impl Outbound {
    /// Frames that wait at most.
    pub const MAX_FRAMES: usize = 256;
    /// Bytes of frames that wait at most, as they are in protobuf.
    pub const MAX_BYTES: usize = 1 << 20;

    /// The next frame; `None` when the session is over and all was said: then the WebSocket closes.
    ///
    /// # Cancel safety
    ///
    /// Dropped, no frame is lost.
    pub async fn next(&mut self) -> Option<Arc<ServerFrame>> {
        self.0.0.pop().await
    }
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self(Queue::new(Outbound::MAX_FRAMES, Outbound::MAX_BYTES))
    }

    /// Says `frame`; false when the session is over.
    pub(crate) fn push(&self, frame: Arc<ServerFrame>) -> bool {
        let bytes = weight(&frame);
        match self.0.push(Arc::clone(&frame), bytes) {
            Ok(()) => true,
            Err(Refusal::Closed) => false,
            Err(Refusal::Full) => self.overflow(frame, bytes),
        }
    }

    /// Waits until the reader has caught up so far that much more can be said.
    pub(crate) async fn room(&self) {
        self.0.shorter_than(Outbound::MAX_FRAMES / 2).await;
    }

    /// Says no more than what waits.
    pub(crate) fn close(&self) {
        self.0.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn overflow(&self, frame: Arc<ServerFrame>, bytes: usize) -> bool {
        let mut told = false;
        self.0.retain(|waiting| {
            told |= matches!(**waiting, ServerFrame::Lagging(_));
            !is_message(waiting)
        });
        let lagging = Arc::new(ServerFrame::Lagging(Lagging::default()));
        let told = told || self.0.push(lagging, 0).is_ok();
        let said = is_message(&frame) || self.0.push(frame, bytes).is_ok();
        if !(told && said) {
            self.0.close();
        }
        told && said
    }
}

/// Whether the client finds it in the store.
fn is_message(frame: &ServerFrame) -> bool {
    matches!(frame, ServerFrame::Push(_) | ServerFrame::Presence(_))
}

/// About as many bytes as the frame is long.
fn weight(frame: &ServerFrame) -> usize {
    let content = match frame {
        ServerFrame::Push(push) => push.body.len() + push.from.len() + push.conversation.len(),
        ServerFrame::Conversation(conversation) => {
            conversation.members.iter().map(|member| member.len() + 2).sum::<usize>() + conversation.name.len()
        }
        ServerFrame::Error(error) => error.message.len(),
        _ => 0,
    };
    content + FRAME_OVERHEAD
}

const FRAME_OVERHEAD: usize = 32;

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("waiting", &self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Push, SendAck};

    fn push(seq: u64, length: usize) -> Arc<ServerFrame> {
        Arc::new(ServerFrame::Push(Push { seq, body: "x".repeat(length), ..Push::default() }))
    }

    fn ack() -> Arc<ServerFrame> {
        Arc::new(ServerFrame::SendAck(SendAck::default()))
    }

    async fn all(outbox: Arc<Outbox>) -> Vec<Arc<ServerFrame>> {
        outbox.close();
        let mut outbound = Outbound(outbox);
        let mut frames = Vec::new();
        while let Some(frame) = outbound.next().await {
            frames.push(frame);
        }
        frames
    }

    #[tokio::test]
    async fn one_frame_over_the_bound_drops_the_messages_and_says_so_once() {
        let outbox = Arc::new(Outbox::new());
        assert!(outbox.push(ack()));
        for seq in 1..Outbound::MAX_FRAMES as u64 {
            assert!(outbox.push(push(seq, 1)));
        }
        assert_eq!(outbox.0.len(), Outbound::MAX_FRAMES);
        for seq in 0..2 * Outbound::MAX_FRAMES as u64 {
            assert!(outbox.push(push(seq, 1)));
        }
        let frames = all(outbox).await;
        assert!(matches!(*frames[0], ServerFrame::SendAck(_)));
        assert_eq!(frames.iter().filter(|frame| matches!(***frame, ServerFrame::Lagging(_))).count(), 1);
        assert!(frames.len() <= Outbound::MAX_FRAMES);
    }

    #[tokio::test]
    async fn a_mebibyte_is_the_other_bound() {
        let outbox = Arc::new(Outbox::new());
        for seq in 0..3 {
            assert!(outbox.push(push(seq, Outbound::MAX_BYTES / 2 - 100)));
        }
        let frames = all(outbox).await;
        assert_eq!(frames.len(), 1);
        assert!(matches!(*frames[0], ServerFrame::Lagging(_)));
    }

    #[test]
    fn who_does_not_read_answers_is_closed() {
        let outbox = Outbox::new();
        for _ in 0..Outbound::MAX_FRAMES {
            assert!(outbox.push(ack()));
        }
        assert!(!outbox.push(ack()));
        assert!(outbox.is_closed());
    }
}
