//! [`RunningCalls`]: the calls of one connection whose handlers did not finish in their first poll.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rpc_core::{
    Code, Context, Error, Status, StatusAnswer,
    frame::Violation,
    transport::{CallStreams, QueueEnd, WireSink},
};
use tokio::{task::AbortHandle, time::Instant};

/// The calls of one connection whose handlers run on tasks of their own.
#[derive(Default)]
pub(crate) struct RunningCalls(Mutex<State>);

#[derive(Default)]
struct State {
    by_id: HashMap<u32, RunningCall, foldhash::fast::RandomState>,
    /// Handlers that still run although `by_id` has no call for them: their call was ended, or is one-way.
    ///
    /// They count towards the limit of the connection.
    detached: usize,
    next_serial: u64,
    /// A lower bound of the deadlines in `by_id`.
    next_deadline: Option<Instant>,
}

struct RunningCall {
    /// Distinguishes calls that use the same id one after the other, and orders calls by arrival.
    serial: u64,
    context: Context,
    sink: WireSink,
    /// The task of the handler; `None` until it is spawned, and for a once call, whose handler other requests wait for too.
    handler: Option<AbortHandle>,
    /// Whether the caller has ended its stream.
    caller_has_ended: bool,
}

/// Counts a handler as running until the guard is dropped; the task of the handler holds it.
pub(crate) struct RunningGuard {
    running: Arc<RunningCalls>,
    id: u32,
    serial: u64,
    /// The streams of the call, which end with the handler.
    streams: Option<Arc<CallStreams>>,
}

impl RunningCalls {
    /// Returns whether fewer than `limit` handlers run.
    ///
    /// # Errors
    ///
    /// `DuplicateId` when an unanswered call has this id.
    pub(crate) fn check(&self, id: u32, limit: usize) -> Result<bool, Violation> {
        let state = self.lock();
        if state.by_id.get(&id).is_some_and(|call| !call.context.is_answered()) {
            return Err(Violation::DuplicateId(id));
        }
        let count = state.by_id.len() + state.detached;
        // An answered call stays in the map until its task ends. It must not count against a new call.
        let answered = || state.by_id.values().filter(|call| call.context.is_answered()).count();
        Ok(count < limit || count - answered() < limit)
    }

    /// Returns whether more than one call runs.
    pub(crate) fn has_several(&self) -> bool {
        self.lock().by_id.len() > 1
    }

    /// Returns whether every call is answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().by_id.values().all(|call| call.context.is_answered())
    }

    /// Adds a call. `spawn` receives the guard that the task of the handler must hold until it ends.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        sink: WireSink,
        context: Context,
        spawn: impl FnOnce(RunningGuard) -> AbortHandle,
    ) {
        let guard = self.insert(sink, context);
        let (id, serial) = (guard.id, guard.serial);
        // Without the lock: a runtime that shuts down drops the handler and the guard at once.
        let handler = spawn(guard);
        let mut state = self.lock();
        match state.by_id.get_mut(&id).filter(|call| call.serial == serial) {
            Some(call) => call.handler = Some(handler),
            None => {
                // The handler has ended, or the call was ended before its handler was known.
                drop(state);
                handler.abort();
            }
        }
    }

    /// Adds a request that waits for a once call, whose handler other requests wait for too.
    pub(crate) fn add_waiter(self: &Arc<Self>, sink: WireSink, context: Context) -> RunningGuard {
        self.insert(sink, context)
    }

    fn insert(self: &Arc<Self>, sink: WireSink, context: Context) -> RunningGuard {
        let mut state = self.lock();
        state.next_serial += 1;
        let (id, serial) = (sink.id(), state.next_serial);
        let streams = sink.streams().map(Arc::clone);
        let call = RunningCall { serial, context, sink, handler: None, caller_has_ended: false };
        state.next_deadline = state.next_deadline.into_iter().chain(call.due(Instant::now)).min();
        if state.by_id.insert(id, call).is_some() {
            // `check` rejects the id of an unanswered call, so the replaced call is answered and its task is about to
            // end.
            state.detached += 1;
        }
        drop(state);
        RunningGuard { running: Arc::clone(self), id, serial, streams }
    }

    /// Counts the handler of a one-way call.
    pub(crate) fn add_one_way(self: &Arc<Self>) -> RunningGuard {
        self.lock().detached += 1;
        RunningGuard { running: Arc::clone(self), id: 0, serial: 0, streams: None }
    }

    /// Ends a call with `status`; returns `false` if no unanswered call has this id.
    pub(crate) fn end(&self, id: u32, status: &Status) -> bool {
        let mut state = self.lock();
        let Some(call) = state.by_id.remove(&id) else { return false };
        state.detached += 1;
        drop(state);
        call.end(status)
    }

    /// Calls `handle` with the streams of a call, or `None` if the call has none. Returns `None` if no call has this id.
    pub(crate) fn with_streams<T>(&self, id: u32, handle: impl FnOnce(Option<&Arc<CallStreams>>) -> T) -> Option<T> {
        let state = self.lock();
        let streams = state.by_id.get(&id)?.sink.streams().map(Arc::clone);
        drop(state);
        Some(handle(streams.as_ref()))
    }

    /// Handles the end of a caller's stream. Returns whether the call has such a stream; `None` if no call has this id.
    ///
    /// # Errors
    ///
    /// A violation if the stream has ended.
    pub(crate) fn handle_caller_end(&self, id: u32) -> Result<Option<bool>, Violation> {
        let mut state = self.lock();
        let Some(call) = state.by_id.get_mut(&id) else { return Ok(None) };
        let Some(received) = call.sink.streams().and_then(|streams| streams.received()).map(Arc::clone) else {
            return Ok(Some(false));
        };
        if std::mem::replace(&mut call.caller_has_ended, true) {
            return Err(Violation::AfterEnd(id));
        }
        // A caller ends its stream too when it has received an answer before its last item.
        let is_answered = call.context.is_answered();
        drop(state);
        received.end(if is_answered { QueueEnd::Lost(call_ended()) } else { QueueEnd::Finished });
        Ok(Some(true))
    }

    /// Records that the caller has closed its sending side, so that its streams never end regularly.
    pub(crate) fn finish_input(&self) {
        let state = self.lock();
        let calls = state.by_id.values();
        let mut streams: Vec<_> =
            calls.filter_map(|call| Some((call.serial, Arc::clone(call.sink.streams()?)))).collect();
        drop(state);
        streams.sort_unstable_by_key(|(serial, _)| *serial);
        for (_, streams) in streams {
            streams.finish_input(input_ended);
        }
    }

    /// Ends all calls with streams. Returns whether there are any.
    pub(crate) fn end_streams(&self, status: &Status) -> bool {
        let mut state = self.lock();
        let mut calls: Vec<RunningCall> =
            state.by_id.extract_if(|_, call| call.sink.streams().is_some()).map(|(_, call)| call).collect();
        calls.sort_unstable_by_key(|call| call.serial);
        state.detached += calls.len();
        drop(state);
        let any = !calls.is_empty();
        for call in calls {
            call.end(status);
        }
        any
    }

    /// Ends the calls whose deadline has passed. Returns a lower bound of the remaining deadlines.
    pub(crate) fn end_overdue(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        if state.next_deadline.is_none_or(|due| now < due) {
            return state.next_deadline;
        }
        let mut overdue: Vec<RunningCall> = state
            .by_id
            .extract_if(|_, call| call.due(|| now).is_some_and(|due| now >= due))
            .map(|(_, call)| call)
            .collect();
        // Answer in arrival order, independent of the order of the map.
        overdue.sort_unstable_by_key(|call| call.serial);
        state.detached += overdue.len();
        state.next_deadline = state.by_id.values().filter_map(|call| call.due(|| now)).min();
        let next = state.next_deadline;
        drop(state);
        for call in overdue {
            // An accepted call has no deadline.
            let message = if call.context.is_accepted() { STREAM_OVERDUE } else { OVERDUE };
            call.end(&Status::new(Code::DeadlineExceeded, message));
        }
        next
    }

    /// Drops all handlers. The connection is closed, so no answer is written.
    pub(crate) fn end_all(&self) {
        let mut state = self.lock();
        let mut calls: Vec<RunningCall> = state.by_id.drain().map(|(_, call)| call).collect();
        calls.sort_unstable_by_key(|call| call.serial);
        state.detached += calls.len();
        drop(state);
        for call in calls {
            call.context.claim_answer(Code::Cancelled);
            call.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunningCall {
    /// Returns when the call ends at the latest: at its deadline, or when the time of its stream ends.
    ///
    /// The time of a stream starts with the acceptance of the call, which is not before `now`.
    fn due(&self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        let stream_end = self.sink.streams().and_then(|streams| streams.ends_at(now()));
        self.context.deadline().into_iter().chain(stream_end).min()
    }

    /// Answers with `status` unless the handler has answered, and drops the handler.
    fn end(self, status: &Status) -> bool {
        let first = self.context.claim_answer(status.code());
        if first {
            self.sink.answer_claimed(&self.context, &StatusAnswer::handled(status.clone()));
            self.abort();
        }
        first
    }

    fn abort(self) {
        self.context.cancel();
        if let Some(streams) = self.sink.streams() {
            streams.close(call_ended);
        }
        if let Some(handler) = self.handler {
            handler.abort();
        }
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        let mut state = self.running.lock();
        if state.by_id.get(&self.id).is_some_and(|call| call.serial == self.serial) {
            state.by_id.remove(&self.id);
        } else {
            state.detached -= 1;
        }
        drop(state);
        // A task to which the handler has passed the items reads their end.
        if let Some(streams) = self.streams.take() {
            streams.close(call_ended);
        }
    }
}

/// Returns the error of a stream that is read after the end of its call.
fn call_ended() -> Error {
    Error::unknown(Code::Cancelled, "the call has ended")
}

/// The message of a stream whose time has ended.
const STREAM_OVERDUE: &str = "the stream has reached its timeout";

/// Returns the error of a stream whose caller has closed its sending side before the end of the stream.
fn input_ended() -> Error {
    Error::unknown(Code::Cancelled, "the caller has closed its sending side before the end of its stream")
}

/// The message of a call whose deadline passed while its handler ran or waited to run.
pub(crate) const OVERDUE: &str = "the deadline passed before the handler ended";

#[cfg(test)]
mod tests {
    use rpc_core::{
        Metadata,
        frame::{FrameType, Header},
        transport::Outbox,
    };
    use tokio::task::JoinSet;

    use super::*;

    /// Adds the call `id`, which `spawn` starts.
    fn add(running: &Arc<RunningCalls>, id: u32, spawn: impl FnOnce(RunningGuard) -> AbortHandle) {
        let header = Header::empty(FrameType::Request, id);
        let sink = WireSink::new(Arc::new(Outbox::new(1 << 20)), &header, 1 << 20);
        running.spawn(sink, Context::new(Arc::default(), None, Metadata::default(), None), spawn);
    }

    /// A runtime that shuts down drops a task when it is spawned, and with it the guard.
    #[tokio::test]
    async fn handler_may_be_dropped_when_it_is_spawned() {
        let (running, mut tasks) = (Arc::new(RunningCalls::default()), JoinSet::new());
        add(&running, 1, |guard| {
            drop(guard);
            tasks.spawn(std::future::pending::<()>())
        });
        assert!(!running.end(1, &Status::new(Code::Cancelled, "")), "the call has ended");
        assert_eq!(running.check(1, 1), Ok(true));
    }

    #[tokio::test]
    async fn call_that_ends_while_its_handler_is_spawned_is_aborted() {
        let (running, mut tasks) = (Arc::new(RunningCalls::default()), JoinSet::new());
        add(&running, 1, |guard| {
            running.end_all();
            tasks.spawn(async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            })
        });
        assert!(tasks.join_next().await.unwrap().unwrap_err().is_cancelled());
        assert_eq!(running.check(1, 1), Ok(true), "the guard was dropped");
    }
}
