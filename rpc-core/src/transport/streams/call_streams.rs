//! [`CallStreams`]: the streams of one call at one end of its connection.

use std::{sync::Arc, task::Waker, time::Duration};

use tokio::time::Instant;

use super::{
    credit::Credit,
    memory::StreamMemory,
    queue::{ItemQueue, PushError, QueueEnd},
};
use crate::{
    Error, deadline_after,
    frame::{Frame, Violation},
    sync::OnceLock,
};

/// The streams of one call at one end of its connection: the items that this end receives, and the credit for those that
/// it sends.
#[derive(Debug)]
pub struct CallStreams {
    id: u32,
    received: Option<Arc<ItemQueue>>,
    credit: Option<Arc<Credit>>,
    /// How long the stream of the callee may last after the acceptance of the call.
    timeout: Option<Duration>,
    /// When that time ends. Set by the acceptance.
    ends_at: OnceLock<Instant>,
}

/// The result of a frame of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// The frame belongs to the stream.
    Yes,
    /// The call has no such stream.
    NoStream,
    /// No memory is free for the item, so the call must end.
    OutOfMemory,
}

impl CallStreams {
    /// Creates the streams of call `id`.
    ///
    /// Returns `None` if no memory is free for the items that this end receives.
    pub fn new(id: u32, sends: bool, receives: bool, max_window: u32, memory: &Arc<StreamMemory>) -> Option<Self> {
        let received = if receives { Some(ItemQueue::new(id, max_window, memory)?) } else { None };
        let credit = sends.then(|| Arc::new(Credit::new()));
        Some(Self { id, received, credit, timeout: None, ends_at: OnceLock::new() })
    }

    /// Limits the time for which the stream of the callee may last after the acceptance of the call.
    #[must_use]
    pub fn with_timeout(self, timeout: Option<Duration>) -> Self {
        Self { timeout, ..self }
    }

    /// Records that the call is accepted.
    pub(super) fn accept(&self) {
        if let Some(timeout) = self.timeout {
            self.ends_at.get_or_init(|| deadline_after(Instant::now(), timeout));
        }
    }

    /// Returns when the time of the stream ends; the earliest such time if the call was not accepted before `now`.
    pub fn ends_at(&self, now: Instant) -> Option<Instant> {
        let timeout = self.timeout?;
        Some(self.ends_at.get().copied().unwrap_or_else(|| deadline_after(now, timeout)))
    }

    /// Returns the id of the call.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Returns the items that this end receives.
    pub fn received(&self) -> Option<&Arc<ItemQueue>> {
        self.received.as_ref()
    }

    /// Returns the credit for the items that this end sends.
    pub fn credit(&self) -> Option<&Arc<Credit>> {
        self.credit.as_ref()
    }

    /// Handles an item of the peer.
    ///
    /// # Errors
    ///
    /// A violation if the peer has no credit or has ended the stream.
    pub fn handle_item(&self, frame: Frame) -> Result<Handled, Violation> {
        let Some(received) = &self.received else { return Ok(Handled::NoStream) };
        match received.push(frame) {
            Ok(()) => Ok(Handled::Yes),
            Err(PushError::Violation(violation)) => Err(violation),
            Err(PushError::OutOfMemory) => Ok(Handled::OutOfMemory),
        }
    }

    /// Handles credit of the peer.
    ///
    /// # Errors
    ///
    /// A violation if the frame is malformed or the credit exceeds its limit.
    pub fn handle_credit(&self, body: &[u8]) -> Result<Handled, Violation> {
        let Some(credit) = &self.credit else { return Ok(Handled::NoStream) };
        let granted = body.try_into().map(u32::from_be_bytes).map_err(|_| Violation::BadCredit(self.id))?;
        credit.add(granted, self.id)?;
        Ok(Handled::Yes)
    }

    /// Handles the end of the peer's items.
    ///
    /// # Errors
    ///
    /// A violation if the stream has ended.
    pub fn handle_end(&self, end: QueueEnd) -> Result<Handled, Violation> {
        let Some(received) = &self.received else { return Ok(Handled::NoStream) };
        if received.end(end) { Ok(Handled::Yes) } else { Err(Violation::AfterEnd(self.id)) }
    }

    /// Records that the peer has closed its sending side: it sends neither items nor credit.
    ///
    /// `error` is that of a reader of incomplete items.
    pub fn finish_input(&self, error: impl FnOnce() -> Error) {
        if let Some(received) = &self.received {
            received.end(QueueEnd::Lost(error()));
        }
        if let Some(credit) = &self.credit {
            credit.finish();
        }
    }

    /// Ends both streams because the call has ended. `error` is that of a reader of incomplete items.
    pub fn close(&self, error: impl FnOnce() -> Error) {
        self.close_quietly(error).wake();
    }

    /// As [`close`](Self::close), for a caller that holds a lock.
    pub fn close_quietly(&self, error: impl FnOnce() -> Error) -> Closed {
        let sender = self.credit.as_ref().and_then(|credit| credit.close());
        let reader = self.received.as_ref().and_then(|received| received.end_quietly(QueueEnd::Lost(error())).1);
        Closed([sender, reader])
    }
}

/// The tasks that wait for streams which have ended.
#[derive(Debug, Default)]
#[must_use = "the tasks must be woken"]
pub struct Closed([Option<Waker>; 2]);

impl Closed {
    /// Wakes the tasks. The caller must hold no lock.
    pub fn wake(self) {
        self.0.into_iter().flatten().for_each(Waker::wake);
    }
}
