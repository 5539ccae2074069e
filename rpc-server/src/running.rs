//! [`Running`]: the calls of one connection whose handlers were not done at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rpc_core::{Code, Context, Status, WireSink};
use tokio::{task::AbortHandle, time::Instant};

/// The calls of one connection whose handlers run on tasks of their own.
#[derive(Default)]
pub(crate) struct Running(Mutex<Table>);

#[derive(Default)]
struct Table {
    calls: HashMap<u32, Entry, foldhash::fast::RandomState>,
    /// Handlers that were told to end, or whose call needs no answer, and that have not ended yet: they count as well.
    lingering: usize,
    /// Calls of this connection that get their answers from what runs elsewhere.
    awaited: usize,
    next_serial: u64,
    /// No call is due before this.
    next_deadline: Option<Instant>,
}

struct Entry {
    serial: u64,
    context: Context,
    sink: WireSink,
    handler: AbortHandle,
}

/// A call that runs once, and gets its answer from whatever connection's handler runs it. When it is dropped, its connection
/// waits for it no more.
pub(crate) struct Awaited {
    running: Arc<Running>,
    sink: WireSink,
}

/// Held by a handler's task: when it is dropped, the handler has really ended.
pub(crate) struct Ended {
    running: Arc<Running>,
    id: u32,
    serial: u64,
}

impl Running {
    /// Whether a call with this id waits for its answer.
    pub(crate) fn contains(&self, id: u32) -> bool {
        self.lock().calls.get(&id).is_some_and(|entry| !entry.context.is_answered())
    }

    /// Whether fewer than `limit` handlers run.
    pub(crate) fn has_room(&self, limit: usize) -> bool {
        let table = self.lock();
        let count = table.calls.len() + table.lingering;
        // A call that has its answer may still stand here for a moment; it must not cost another one its place.
        count < limit || count - table.calls.values().filter(|entry| entry.context.is_answered()).count() < limit
    }

    /// Whether every call has its answer.
    pub(crate) fn is_idle(&self) -> bool {
        let table = self.lock();
        table.awaited == 0 && table.calls.values().all(|entry| entry.context.is_answered())
    }

    /// Lets the connection wait for an answer that comes from elsewhere.
    pub(crate) fn await_answer(self: &Arc<Self>, sink: WireSink) -> Awaited {
        self.lock().awaited += 1;
        Awaited { running: Arc::clone(self), sink }
    }

    /// Enters a call; `spawn` gets what the handler's task must hold until it ends.
    pub(crate) fn enter(self: &Arc<Self>, sink: WireSink, context: Context, spawn: impl FnOnce(Ended) -> AbortHandle) {
        // The lock is held over the spawn: a handler that ends at once waits for its entry before it removes it.
        let mut table = self.lock();
        table.next_serial += 1;
        let (id, serial) = (sink.id, table.next_serial);
        let handler = spawn(Ended { running: Arc::clone(self), id, serial });
        table.next_deadline = table.next_deadline.into_iter().chain(context.deadline()).min();
        if table.calls.insert(id, Entry { serial, context, sink, handler }).is_some() {
            // The earlier call with this id has its answer, else it would have been a violation; its task is about to end.
            table.lingering += 1;
        }
    }

    /// Counts a handler whose call needs no answer.
    pub(crate) fn enter_one_way(self: &Arc<Self>) -> Ended {
        self.lock().lingering += 1;
        Ended { running: Arc::clone(self), id: 0, serial: 0 }
    }

    /// Ends a call with `status`, if it is there and not answered yet.
    pub(crate) fn end(&self, id: u32, status: &Status) -> bool {
        let mut table = self.lock();
        let Some(entry) = table.calls.remove(&id) else { return false };
        table.lingering += 1;
        drop(table);
        entry.end(status)
    }

    /// Ends the calls whose deadline has passed; says when the next is due.
    pub(crate) fn end_overdue(&self, now: Instant) -> Option<Instant> {
        let mut table = self.lock();
        if table.next_deadline.is_none_or(|due| now < due) {
            return table.next_deadline;
        }
        let overdue: Vec<Entry> = table
            .calls
            .extract_if(|_, entry| entry.context.deadline().is_some_and(|deadline| now >= deadline))
            .map(|(_, entry)| entry)
            .collect();
        table.lingering += overdue.len();
        table.next_deadline = table.calls.values().filter_map(|entry| entry.context.deadline()).min();
        let next = table.next_deadline;
        drop(table);
        let status = Status::new(Code::DeadlineExceeded, "the deadline passed while the handler ran");
        for entry in overdue {
            entry.end(&status);
        }
        next
    }

    /// Drops all handlers: nobody is left to be answered.
    pub(crate) fn end_all(&self) {
        let mut table = self.lock();
        let entries: Vec<Entry> = table.calls.drain().map(|(_, entry)| entry).collect();
        table.lingering += entries.len();
        drop(table);
        for entry in entries {
            entry.context.claim_answer();
            entry.context.cancel();
            entry.handler.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Answers with `status` unless the handler has answered, and drops the handler.
    fn end(self, status: &Status) -> bool {
        let first = self.context.claim_answer();
        if first {
            self.sink.refuse(status, None);
            self.context.cancel();
            self.handler.abort();
        }
        first
    }
}

impl Awaited {
    pub(crate) fn sink(&self) -> &WireSink {
        &self.sink
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.running.lock().awaited -= 1;
        // The connection may have waited for nothing else. Woken after the count, so that it sees it.
        self.sink.outbox.wake();
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let mut table = self.running.lock();
        if table.calls.get(&self.id).is_some_and(|entry| entry.serial == self.serial) {
            table.calls.remove(&self.id);
        } else {
            table.lingering -= 1;
        }
    }
}
