//! [`CallTable`]: the calls of a session that wait for frames of the callee.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use rpc_core::{
    Code, Error, Status,
    frame::{Frame, FrameType, Violation},
    head::ResponseHead,
    transport::{CallStreams, Handled, Outbox, QueueEnd},
};
use tokio::sync::oneshot;

use super::unread::{Unread, UnreadBytes};

/// The calls of a session, by their ids.
///
/// A call without streams is in the table until its RESPONSE; one with streams until the callee has sent its last frame and
/// this end has sent END or CANCEL. END and CANCEL are appended to the outbox under the lock of the table, so that no later
/// call with the id precedes them.
pub(super) struct CallTable {
    state: Mutex<State>,
    unread: Arc<UnreadBytes>,
}

struct State {
    calls: HashMap<u32, WaitingCall, foldhash::fast::RandomState>,
    last_id: u32,
    phase: Phase,
}

/// The phases of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Phase {
    /// It accepts calls.
    Open,
    /// It accepts no more calls, and ends after those in the table.
    Draining,
    /// It has ended, or is about to.
    Closed,
}

struct WaitingCall {
    /// Receives the RESPONSE, unless the caller is gone.
    answer: Option<oneshot::Sender<Answer>>,
    streams: Option<Arc<CallStreams>>,
    /// Whether the callee has accepted a call that expects items.
    is_accepted: bool,
    /// Whether this end has sent END or CANCEL, or sends no items.
    caller_has_ended: bool,
    is_cancelled: bool,
}

/// The id and the streams of a call.
pub(super) type Inserted = (u32, Option<Arc<CallStreams>>);

/// The RESPONSE of a call, or the error of a session that ended.
pub(super) enum Answer {
    Frame(Frame, Unread),
    Error(Error),
}

impl CallTable {
    pub(super) fn new(unread: Arc<UnreadBytes>) -> Self {
        let state = State { calls: HashMap::default(), last_id: 0, phase: Phase::Open };
        Self { state: Mutex::new(state), unread }
    }

    pub(super) fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Accepts no more calls.
    pub(super) fn drain(&self) {
        let mut state = self.lock();
        state.phase = if state.phase == Phase::Closed { Phase::Closed } else { Phase::Draining };
    }

    /// Adds a call, before its request is sent. Returns its id; `None` if the session accepts no more calls.
    ///
    /// `streams` creates the streams of the call with its id.
    ///
    /// # Errors
    ///
    /// That of `streams`.
    pub(super) fn insert(
        &self,
        answer: oneshot::Sender<Answer>,
        sends_items: bool,
        streams: impl FnOnce(u32) -> Result<Option<Arc<CallStreams>>, Status>,
    ) -> Result<Option<Inserted>, Status> {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return Ok(None);
        }
        let id = loop {
            state.last_id = state.last_id.wrapping_add(1).max(1);
            if !state.calls.contains_key(&state.last_id) {
                break state.last_id;
            }
        };
        let streams = streams(id)?;
        let call = WaitingCall {
            answer: Some(answer),
            streams: streams.clone(),
            is_accepted: false,
            caller_has_ended: !sends_items,
            is_cancelled: false,
        };
        state.calls.insert(id, call);
        Ok(Some((id, streams)))
    }

    /// Removes a call whose request was not sent.
    pub(super) fn roll_back(&self, id: u32) {
        self.lock().calls.remove(&id);
    }

    /// Cancels a call whose caller is gone. A reader of its items receives `status`.
    pub(super) fn cancel(&self, id: u32, status: Status, outbox: &Outbox) {
        let mut state = self.lock();
        let Some(call) = state.calls.get_mut(&id).filter(|call| !call.is_cancelled) else { return };
        call.answer = None;
        call.is_cancelled = true;
        let Some(streams) = &call.streams else {
            // Without an answer, nothing else removes the call.
            if outbox.cancel(id) {
                state.calls.remove(&id);
            }
            return;
        };
        // Closed before CANCEL is appended, so that no item follows it.
        let closed = streams.close_quietly(|| Error::from_status(status));
        call.caller_has_ended = true;
        outbox.push_empty_behind(FrameType::Cancel, id);
        drop(state);
        closed.wake();
    }

    /// Records that this end has sent all its items, and sends END.
    pub(super) fn finish(&self, id: u32, outbox: &Outbox) {
        let mut state = self.lock();
        if let Some(call) = state.calls.get_mut(&id)
            && !std::mem::replace(&mut call.caller_has_ended, true)
        {
            outbox.push_empty_behind(FrameType::CallerEnd, id);
        }
    }

    /// Handles the RESPONSE of a call.
    ///
    /// # Errors
    ///
    /// The violation for which the session closes.
    pub(super) fn handle_response(&self, frame: Frame, outbox: &Outbox) -> Result<(), Violation> {
        let (id, code) = (frame.header.id, ResponseHead::code(&frame.body));
        let mut state = self.lock();
        let Some(call) = state.calls.get_mut(&id) else { return Ok(()) };
        if call.is_accepted {
            return if code == Code::Ok { Ok(()) } else { Err(Violation::SecondResponse(id)) };
        }
        let answer = call.answer.take();
        let is_acceptance =
            code == Code::Ok && call.streams.as_ref().is_some_and(|streams| streams.received().is_some());
        if is_acceptance {
            call.is_accepted = true;
            drop(state);
        } else {
            self.end(state, id, outbox, QueueEnd::Finished);
        }
        if let Some(answer) = answer {
            let unread = self.unread.add(frame.body.len());
            // Fails if the caller is gone, which has cancelled the call.
            let _ = answer.send(Answer::Frame(frame, unread));
        }
        Ok(())
    }

    /// Handles an item of the callee.
    ///
    /// # Errors
    ///
    /// As [`handle_response`](Self::handle_response).
    pub(super) fn handle_item(&self, frame: Frame, outbox: &Outbox) -> Result<(), Violation> {
        let id = frame.header.id;
        let Some(streams) = self.accepted(id)? else { return Ok(()) };
        if streams.handle_item(frame)? == Handled::OutOfMemory {
            self.cancel(id, Status::new(Code::ResourceExhausted, NO_MEMORY), outbox);
        }
        Ok(())
    }

    /// Handles the END of the callee.
    ///
    /// # Errors
    ///
    /// As [`handle_response`](Self::handle_response).
    pub(super) fn handle_end(&self, id: u32, end: QueueEnd, outbox: &Outbox) -> Result<(), Violation> {
        if self.accepted(id)?.is_some() {
            self.end(self.lock(), id, outbox, end);
        }
        Ok(())
    }

    /// Handles credit of the callee.
    ///
    /// # Errors
    ///
    /// As [`handle_response`](Self::handle_response).
    pub(super) fn handle_credit(&self, id: u32, body: &[u8]) -> Result<(), Violation> {
        let streams = self.lock().calls.get(&id).and_then(|call| call.streams.clone());
        if let Some(streams) = streams {
            streams.handle_credit(body)?;
        }
        Ok(())
    }

    /// Returns whether a call is in the table. Closes an open session without calls if `is_idle`.
    pub(super) fn check(&self, is_idle: bool) -> (Phase, bool) {
        let mut state = self.lock();
        let has_calls = !state.calls.is_empty();
        if is_idle && !has_calls {
            state.phase = Phase::Closed;
        }
        (state.phase, has_calls)
    }

    /// Ends all calls with an error, because the session has ended.
    pub(super) fn close(&self, error: impl Fn() -> Error) {
        let mut state = self.lock();
        state.phase = Phase::Closed;
        let calls = std::mem::take(&mut state.calls);
        drop(state);
        for call in calls.into_values() {
            if let Some(streams) = &call.streams {
                streams.close(&error);
            }
            if let Some(answer) = call.answer {
                let _ = answer.send(Answer::Error(error()));
            }
        }
    }

    fn accepted(&self, id: u32) -> Result<Option<Arc<CallStreams>>, Violation> {
        let state = self.lock();
        let Some(call) = state.calls.get(&id) else { return Ok(None) };
        let Some(streams) = call.streams.as_ref().filter(|streams| streams.received().is_some()) else {
            return Ok(None);
        };
        if call.is_accepted { Ok(Some(Arc::clone(streams))) } else { Err(Violation::BeforeResponse(id)) }
    }

    /// Handles the last frame of the callee for a call: this end sends END if it has not yet.
    fn end(&self, mut state: MutexGuard<'_, State>, id: u32, outbox: &Outbox, end: QueueEnd) {
        let Some(call) = state.calls.remove(&id) else { return };
        let Some(streams) = call.streams else { return };
        let reader = streams.received().and_then(|received| received.end_quietly(end).1);
        // Closed before END is appended, so that no item follows it.
        let closed = streams.close_quietly(|| Error::answered(Code::Cancelled, "the call has ended"));
        if !call.caller_has_ended {
            outbox.end_early(id);
        }
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        closed.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) const NO_MEMORY: &str =
    "the items that wait to be read reached their limit (TransportConfig::stream_memory)";
