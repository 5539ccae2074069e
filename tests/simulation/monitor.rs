//! [`Monitor`]: checks the frames of the streams on one connection of a client, as docs/PROTOCOL.md specifies them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use rpc_core::{
    Code,
    frame::{Frame, FrameType},
    head::{CallFlags, RequestHead, ResponseHead},
    transport::{Credit, FrameReader, Inbound},
};

use super::history::History;

/// The monitors of the open connections of a client.
#[derive(Clone, Default)]
pub(crate) struct Monitors(Arc<Mutex<Vec<Weak<Mutex<State>>>>>);

/// Checks the frames of one connection.
pub(crate) struct Monitor {
    state: Arc<Mutex<State>>,
    history: Arc<History>,
}

struct State {
    written: FrameReader,
    read: FrameReader,
    /// The calls whose ids are not free.
    calls: BTreeMap<u32, StreamCall>,
}

/// A call with streams whose id is not free.
struct StreamCall {
    expects_items: bool,
    is_accepted: bool,
    caller_has_ended: bool,
    is_cancelled: bool,
    callee_has_ended: bool,
    /// The credit that the caller has left. It is exact, because the client reads and writes at this end.
    caller_credit: i64,
    /// An upper bound of the credit that the callee has left.
    callee_credit: i64,
}

impl Monitors {
    /// Returns the monitor of a new connection.
    pub(crate) fn monitor(&self, history: &Arc<History>) -> Monitor {
        let reader = || FrameReader::new(FrameReader::MAX_FRAME);
        let state = State { written: reader(), read: reader(), calls: BTreeMap::new() };
        let state = Arc::new(Mutex::new(state));
        let mut monitors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        monitors.retain(|monitor| monitor.strong_count() > 0);
        monitors.push(Arc::downgrade(&state));
        Monitor { state, history: Arc::clone(history) }
    }

    /// Returns the number of calls with streams that have not ended on the open connections.
    pub(crate) fn open_calls(&self) -> usize {
        let monitors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        monitors.iter().filter_map(Weak::upgrade).map(|state| lock(&state).calls.len()).sum()
    }
}

impl Monitor {
    /// Checks bytes that the client has written.
    pub(crate) fn written(&self, bytes: &[u8]) {
        let mut state = lock(&self.state);
        for frame in frames(&mut state.written, bytes) {
            self.record(&frame, state.handle_written(&frame));
        }
    }

    /// Checks bytes that the client has read.
    pub(crate) fn read(&self, bytes: &[u8]) {
        let mut state = lock(&self.state);
        for frame in frames(&mut state.read, bytes) {
            self.record(&frame, state.handle_read(&frame));
        }
    }

    fn record(&self, frame: &Frame, handled: Result<(), &str>) {
        if let Err(violation) = handled {
            self.history.record_violation(format!("{violation}: {:?}", frame.header));
        }
    }
}

fn frames(reader: &mut FrameReader, bytes: &[u8]) -> Vec<Frame> {
    reader.read_buffer().extend_from_slice(bytes);
    reader.filled(bytes.len());
    let mut frames = Vec::new();
    while let Ok(Some(inbound)) = reader.next_frame() {
        if let Inbound::Frame(frame) = inbound {
            frames.push(frame);
        }
    }
    frames
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn handle_written(&mut self, frame: &Frame) -> Result<(), &'static str> {
        let id = frame.header.id;
        match frame.header.frame_type {
            FrameType::Request => self.add(frame)?,
            FrameType::CallerItem => {
                let call = self.calls.get_mut(&id).ok_or("an item for a free id was written")?;
                check(!call.caller_has_ended, "an item was written after END or CANCEL")?;
                check(call.caller_credit > 0, "an item was written without credit")?;
                call.caller_credit -= cost(frame);
            }
            FrameType::CallerEnd => {
                let call = self.calls.get_mut(&id).ok_or("END for a free id was written")?;
                check(!call.caller_has_ended, "END was written after END or CANCEL")?;
                call.caller_has_ended = true;
            }
            FrameType::CallerCredit => {
                // It may cross the end of the call.
                let Some(call) = self.calls.get_mut(&id) else { return Ok(()) };
                check(!call.is_cancelled, "CREDIT was written after CANCEL")?;
                call.callee_credit += credit(frame)?;
            }
            FrameType::Cancel => {
                // That of a unary call, or it crosses the end of the call.
                let Some(call) = self.calls.get_mut(&id) else { return Ok(()) };
                check(!call.is_cancelled, "CANCEL was written twice")?;
                (call.caller_has_ended, call.is_cancelled) = (true, true);
            }
            _ => {}
        }
        self.free(id);
        Ok(())
    }

    fn handle_read(&mut self, frame: &Frame) -> Result<(), &'static str> {
        let id = frame.header.id;
        match frame.header.frame_type {
            FrameType::Response => {
                // That of a unary call, or a duplicate.
                let Some(call) = self.calls.get_mut(&id).filter(|call| !call.is_accepted) else { return Ok(()) };
                let head = ResponseHead::take(&mut frame.body.clone()).map_err(|_| "a malformed head was read")?;
                call.is_accepted = call.expects_items && head.status.code() == Code::Ok;
                call.callee_has_ended = !call.is_accepted;
            }
            FrameType::CalleeItem => {
                let call = self.calls.get_mut(&id).ok_or("an item for a free id was read")?;
                check(call.is_accepted && !call.callee_has_ended, "an item was read before RESPONSE or after END")?;
                check(call.callee_credit > 0, "an item was read without credit")?;
                call.callee_credit -= cost(frame);
            }
            FrameType::CalleeEnd => {
                let call = self.calls.get_mut(&id).ok_or("END for a free id was read")?;
                check(call.is_accepted && !call.callee_has_ended, "END was read before RESPONSE or after END")?;
                call.callee_has_ended = true;
            }
            FrameType::CalleeCredit => {
                let call = self.calls.get_mut(&id).filter(|call| !call.callee_has_ended);
                call.ok_or("CREDIT was read after the end of its call")?.caller_credit += credit(frame)?;
            }
            _ => {}
        }
        self.free(id);
        Ok(())
    }

    fn add(&mut self, frame: &Frame) -> Result<(), &'static str> {
        check(!self.calls.contains_key(&frame.header.id), "an id that is not free was reused")?;
        let head = RequestHead::take(&mut frame.body.clone()).map_err(|_| "a malformed head was written")?;
        if head.flags.has_streams() {
            let call = StreamCall {
                expects_items: head.flags.contains(CallFlags::EXPECTS_ITEMS),
                is_accepted: false,
                caller_has_ended: !head.flags.contains(CallFlags::SENDS_ITEMS),
                is_cancelled: false,
                callee_has_ended: false,
                caller_credit: Credit::INITIAL.into(),
                callee_credit: Credit::INITIAL.into(),
            };
            self.calls.insert(frame.header.id, call);
        }
        Ok(())
    }

    fn free(&mut self, id: u32) {
        if self.calls.get(&id).is_some_and(|call| call.callee_has_ended && call.caller_has_ended) {
            self.calls.remove(&id);
        }
    }
}

fn check(holds: bool, violation: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(violation) }
}

fn cost(frame: &Frame) -> i64 {
    Credit::cost(frame.body.len()) as i64
}

fn credit(frame: &Frame) -> Result<i64, &'static str> {
    let credit = <[u8; 4]>::try_from(&frame.body[..]).map_err(|_| "malformed CREDIT")?;
    Ok(u32::from_be_bytes(credit).into())
}
