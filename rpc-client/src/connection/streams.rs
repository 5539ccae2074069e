//! [`ChannelStreams`]: the calls of a channel that have streams.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, atomic::Ordering},
    task::Waker,
};

use rpc_core::{
    Code, Error, Status,
    frame::{Frame, FrameType, Violation},
    head::ResponseHead,
    sync::{AtomicUsize, Mutex, MutexGuard},
    transport::{CallStreams, Handled, Outbox, QueueEnd, StreamMemory, TransportConfig},
};

/// The calls of a channel that have streams.
///
/// A call is in this table until the peer has sent its last frame and this end has sent END or CANCEL. Its id is then free.
/// END and CANCEL are appended to the outbox under the lock of the table, so that no later call with the id precedes them.
#[derive(Debug)]
pub(super) struct ChannelStreams {
    calls: Mutex<HashMap<u32, StreamCall, foldhash::fast::RandomState>>,
    /// The number of calls, outside the lock so that unary calls take none.
    count: AtomicUsize,
    memory: Arc<StreamMemory>,
    max_window: u32,
}

#[derive(Debug)]
struct StreamCall {
    streams: Arc<CallStreams>,
    /// Whether the peer has accepted the call, which expects items.
    is_accepted: bool,
    /// Whether this end has sent END or CANCEL, or sends no items.
    caller_has_ended: bool,
    /// Whether this end has sent CANCEL.
    is_cancelled: bool,
}

/// The streams that a method has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamKind {
    /// Whether this end sends items.
    pub(crate) sends: bool,
    /// Whether this end expects items.
    pub(crate) expects: bool,
}

impl ChannelStreams {
    pub(super) fn new(config: &TransportConfig) -> Self {
        Self {
            calls: Mutex::new(HashMap::default()),
            count: AtomicUsize::new(0),
            memory: StreamMemory::new(config.stream_memory),
            max_window: config.stream_window,
        }
    }

    /// Returns whether a call of the channel has streams.
    pub(super) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Returns whether call `id` has streams that have not ended.
    pub(super) fn contains(&self, id: u32) -> bool {
        self.lock().contains_key(&id)
    }

    /// Adds call `id`, before its request is sent.
    ///
    /// # Errors
    ///
    /// `ResourceExhausted` if no memory is free for the items of the peer.
    pub(super) fn insert(&self, id: u32, kind: StreamKind) -> Result<Arc<CallStreams>, Status> {
        let streams = CallStreams::new(id, kind.sends, kind.expects, self.max_window, &self.memory);
        let streams = Arc::new(streams.ok_or_else(|| Status::new(Code::ResourceExhausted, NO_MEMORY))?);
        let call = StreamCall {
            streams: Arc::clone(&streams),
            is_accepted: false,
            caller_has_ended: !kind.sends,
            is_cancelled: false,
        };
        let mut calls = self.lock();
        calls.insert(id, call);
        self.count.store(calls.len(), Ordering::Release);
        Ok(streams)
    }

    /// Removes a call whose request was not sent.
    pub(super) fn roll_back(&self, id: u32) {
        self.remove(&mut self.lock(), id);
    }

    /// Handles the RESPONSE of a call. Returns whether its id is free.
    ///
    /// # Errors
    ///
    /// The violation for which the connection closes.
    pub(super) fn handle_response(&self, frame: &Frame, outbox: &Outbox) -> Result<bool, Violation> {
        let id = frame.header.id;
        let mut calls = self.lock();
        let Some(call) = calls.get_mut(&id) else { return Ok(false) };
        let code = ResponseHead::code(&frame.body);
        if call.is_accepted {
            // A repeated acceptance has no effect, but a late error must not be lost.
            return if code == Code::Ok { Ok(false) } else { Err(Violation::SecondResponse(id)) };
        }
        if call.streams.received().is_none() || code != Code::Ok {
            return Ok(self.end(calls, id, outbox, QueueEnd::Finished));
        }
        call.is_accepted = true;
        drop(calls);
        if ResponseHead::take(&mut frame.body.clone()).is_err() {
            // The caller reports the head, which this client cannot read.
            self.fail(id, Status::new(Code::Internal, "the head of the RESPONSE is not supported"), outbox);
        }
        Ok(false)
    }

    /// Handles a RESPONSE that is longer than the limit. Returns whether the id of its call is free.
    ///
    /// # Errors
    ///
    /// As [`handle_response`](Self::handle_response).
    pub(super) fn handle_overlong_response(&self, id: u32, outbox: &Outbox) -> Result<bool, Violation> {
        let calls = self.lock();
        if calls.get(&id).is_some_and(|call| call.is_accepted) {
            return Err(Violation::SecondResponse(id));
        }
        Ok(self.end(calls, id, outbox, QueueEnd::Finished))
    }

    /// Handles an item of the peer.
    ///
    /// # Errors
    ///
    /// The violation for which the connection closes.
    pub(super) fn handle_item(&self, frame: Frame, outbox: &Outbox) -> Result<bool, Violation> {
        let id = frame.header.id;
        let Some(streams) = self.accepted(id)? else { return Ok(false) };
        if streams.handle_item(frame)? == Handled::OutOfMemory {
            self.fail(id, Status::new(Code::ResourceExhausted, NO_MEMORY), outbox);
        }
        Ok(true)
    }

    /// Handles credit of the peer. Returns whether a call with such a stream has this id.
    ///
    /// # Errors
    ///
    /// The violation for which the connection closes.
    pub(super) fn handle_credit(&self, id: u32, body: &[u8]) -> Result<bool, Violation> {
        let Some(streams) = self.lock().get(&id).map(|call| Arc::clone(&call.streams)) else { return Ok(false) };
        Ok(streams.handle_credit(body)? == Handled::Yes)
    }

    /// Handles the END of the peer, or its header if it was too long. Returns whether the id is free; `None` if no call has
    /// this id.
    ///
    /// # Errors
    ///
    /// The violation for which the connection closes.
    pub(super) fn handle_end(&self, id: u32, end: QueueEnd, outbox: &Outbox) -> Result<Option<bool>, Violation> {
        if self.accepted(id)?.is_none() {
            return Ok(None);
        }
        Ok(Some(self.end(self.lock(), id, outbox, end)))
    }

    /// Records that this end has sent all its items, and sends END.
    pub(super) fn finish(&self, id: u32, outbox: &Outbox) {
        let mut calls = self.lock();
        if let Some(call) = calls.get_mut(&id)
            && !std::mem::replace(&mut call.caller_has_ended, true)
        {
            outbox.push_empty_behind(FrameType::CallerEnd, id);
        }
    }

    /// Cancels a call, unless it has ended. The reader of its items receives `status`.
    pub(super) fn fail(&self, id: u32, status: Status, outbox: &Outbox) {
        let mut calls = self.lock();
        let Some(call) = calls.get_mut(&id).filter(|call| !call.is_cancelled) else { return };
        // Closed before CANCEL is appended, so that no item follows it.
        let closed = call.streams.close_quietly(|| Error::from_status(status));
        (call.caller_has_ended, call.is_cancelled) = (true, true);
        outbox.push_empty_behind(FrameType::Cancel, id);
        drop(calls);
        closed.wake();
    }

    /// Wakes the readers of all streams, because the peer drains.
    pub(super) fn wake_readers(&self) {
        let calls = self.lock();
        let mut streams: Vec<_> = calls.values().map(|call| Arc::clone(&call.streams)).collect();
        drop(calls);
        // As in `close`.
        streams.sort_unstable_by_key(|streams| streams.id());
        streams.iter().filter_map(|streams| streams.received()).for_each(|received| received.wake_reader());
    }

    /// Ends the streams of all calls, because the connection is closed.
    pub(super) fn close(&self, error: impl Fn() -> Error) {
        let mut calls: Vec<_> = std::mem::take(&mut *self.lock()).into_values().collect();
        self.count.store(0, Ordering::Release);
        // Wake-ups must not depend on the order of the map.
        calls.sort_unstable_by_key(|call| call.streams.id());
        for call in calls {
            call.streams.close(&error);
        }
    }

    /// Returns the streams of a call that expects items; `None` if no such call has this id.
    fn accepted(&self, id: u32) -> Result<Option<Arc<CallStreams>>, Violation> {
        match self.lock().get(&id).filter(|call| call.streams.received().is_some()) {
            Some(call) if !call.is_accepted => Err(Violation::BeforeResponse(id)),
            call => Ok(call.map(|call| Arc::clone(&call.streams))),
        }
    }

    /// Handles the last frame of the peer for a call: this end sends END if it has not yet. Returns whether the id is free.
    fn end(&self, mut calls: Calls<'_>, id: u32, outbox: &Outbox, end: QueueEnd) -> bool {
        let Some(call) = self.remove(&mut calls, id) else { return false };
        let ended = || Error::answered(Code::Cancelled, "the call has ended");
        let reader = call.streams.received().and_then(|received| received.end_quietly(end).1);
        // Closed before END is appended, so that no item follows it.
        let closed = call.streams.close_quietly(ended);
        if !call.caller_has_ended {
            outbox.end_early(id);
        }
        drop(calls);
        reader.into_iter().for_each(Waker::wake);
        closed.wake();
        true
    }

    fn remove(&self, calls: &mut Calls<'_>, id: u32) -> Option<StreamCall> {
        let call = calls.remove(&id);
        self.count.store(calls.len(), Ordering::Release);
        call
    }

    fn lock(&self) -> Calls<'_> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Calls<'a> = MutexGuard<'a, HashMap<u32, StreamCall, foldhash::fast::RandomState>>;

const NO_MEMORY: &str = "the items that wait to be read reached their limit (TransportConfig::stream_memory)";
