//! [`Outbound`]: the bounded queue of frames for one client.

use std::sync::Arc;

use super::queue::{PushError, Queue};
use crate::envelope::{Lagging, Push, ServerFrame};

/// The frames for one session, which its connection writes to the WebSocket.
///
/// At most [`MAX_FRAMES`](Self::MAX_FRAMES) frames or [`MAX_BYTES`](Self::MAX_BYTES) wait. Above that, the queue
/// replaces the waiting messages with one `Lagging` frame, after which the client syncs. When answers alone exceed the
/// limits, the session closes.
#[derive(Debug)]
pub struct Outbound(pub(crate) Arc<Outbox>);

/// The sending half of an [`Outbound`].
pub(crate) struct Outbox(Queue<Arc<ServerFrame>>);

impl Outbound {
    /// The maximum number of waiting frames.
    pub const MAX_FRAMES: usize = 256;
    /// The maximum number of bytes of waiting frames, estimated for protobuf.
    pub const MAX_BYTES: usize = 1 << 20;

    /// Returns the next frame; `None` once the session has ended and no frame waits.
    ///
    /// The caller closes the WebSocket after `None`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no frame.
    pub async fn next(&mut self) -> Option<Arc<ServerFrame>> {
        self.0.0.pop().await
    }
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self(Queue::new(Outbound::MAX_FRAMES, Outbound::MAX_BYTES))
    }

    /// Queues a frame; returns false once the session has ended.
    pub(crate) fn push(&self, frame: Arc<ServerFrame>) -> bool {
        let bytes = estimated_len(&frame);
        match self.0.push(Arc::clone(&frame), bytes) {
            Ok(()) => true,
            Err(PushError::Closed) => false,
            Err(PushError::Full) => self.overflow(frame, bytes),
        }
    }

    /// Waits until the queue is less than half full, by frames and by bytes.
    pub(crate) async fn wait_for_capacity(&self) {
        self.0.shorter_than(Outbound::MAX_FRAMES / 2, Outbound::MAX_BYTES / 2).await;
    }

    /// Ends the session; the waiting frames are still written.
    pub(crate) fn close(&self) {
        self.0.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn overflow(&self, frame: Arc<ServerFrame>, bytes: usize) -> bool {
        let mut has_lagging = false;
        self.0.retain(|waiting| {
            has_lagging |= matches!(**waiting, ServerFrame::Lagging(_));
            !is_message(waiting)
        });
        let lagging = Arc::new(ServerFrame::Lagging(Lagging::default()));
        let has_lagging = has_lagging || self.0.push(lagging, 0).is_ok();
        let accepted = is_message(&frame) || self.0.push(frame, bytes).is_ok();
        if !(has_lagging && accepted) {
            self.0.close();
        }
        has_lagging && accepted
    }
}

/// Returns whether the client receives the content of the frame by a sync.
fn is_message(frame: &ServerFrame) -> bool {
    match frame {
        ServerFrame::Push(_) | ServerFrame::Presence(_) | ServerFrame::Receipt(_) => true,
        // Without an id it answers no request.
        ServerFrame::Conversation(conversation) => conversation.id.is_none(),
        _ => false,
    }
}

/// Estimates the length of a frame in protobuf.
fn estimated_len(frame: &ServerFrame) -> usize {
    let content = match frame {
        ServerFrame::Push(push) => push_len(push),
        ServerFrame::History(history) => history.messages.iter().map(|push| push_len(push) + FRAME_OVERHEAD).sum(),
        ServerFrame::Members(members) => members.members.iter().map(|member| member.user.len() + FRAME_OVERHEAD).sum(),
        ServerFrame::Conversation(conversation) => {
            conversation.members.iter().map(|member| member.len() + 2).sum::<usize>() + conversation.name.len()
        }
        ServerFrame::Error(error) => error.message.len(),
        _ => 0,
    };
    content + FRAME_OVERHEAD
}

fn push_len(push: &Push) -> usize {
    push.body.len() + push.from.len() + push.conversation.len()
}

/// The estimated bytes of a frame besides its variable fields.
const FRAME_OVERHEAD: usize = 32;

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("waiting", &self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::SendAck;

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
    async fn frame_limit_replaces_messages_with_one_lagging() {
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
    async fn byte_limit_replaces_messages_with_lagging() {
        let outbox = Arc::new(Outbox::new());
        for seq in 0..3 {
            assert!(outbox.push(push(seq, Outbound::MAX_BYTES / 2 - 100)));
        }
        let frames = all(outbox).await;
        assert_eq!(frames.len(), 1);
        assert!(matches!(*frames[0], ServerFrame::Lagging(_)));
    }

    #[test]
    fn unread_answers_close_the_session() {
        let outbox = Outbox::new();
        for _ in 0..Outbound::MAX_FRAMES {
            assert!(outbox.push(ack()));
        }
        assert!(!outbox.push(ack()));
        assert!(outbox.is_closed());
    }
}
