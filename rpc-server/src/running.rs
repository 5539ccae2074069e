//! [`Running`]: the calls of one connection whose handlers were not done at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rpc_core::{Code, Context, Status, WireSink, frame::Violation};
use tokio::{task::AbortHandle, time::Instant};

/// The calls of one connection whose handlers run on tasks of their own.
#[derive(Default)]
pub(crate) struct Running(Mutex<Table>);

#[derive(Default)]
struct Table {
    calls: HashMap<u32, Entry, foldhash::fast::RandomState>,
    /// Handlers that were told to end, or whose call needs no answer, and that have not ended yet: they count as well.
    lingering: usize,
    next_serial: u64,
    /// No call is due before this.
    next_deadline: Option<Instant>,
}

struct Entry {
    serial: u64,
    context: Context,
    sink: WireSink,
    /// The handler's task; none where the handler is not this call's alone.
    handler: Option<AbortHandle>,
}

/// Held by a handler's task: when it is dropped, the handler has really ended.
pub(crate) struct Ended {
    running: Arc<Running>,
    id: u32,
    serial: u64,
}

impl Running {
    /// Whether fewer than `limit` handlers run; a violation when a call with this id waits for its answer.
    pub(crate) fn check(&self, id: u32, limit: usize) -> Result<bool, Violation> {
        let table = self.lock();
        if table.calls.get(&id).is_some_and(|entry| !entry.context.is_answered()) {
            return Err(Violation::DuplicateId(id));
        }
        let count = table.calls.len() + table.lingering;
        // A call that has its answer may still stand here for a moment; it must not cost another one its place.
        let answered = || table.calls.values().filter(|entry| entry.context.is_answered()).count();
        Ok(count < limit || count - answered() < limit)
    }

    /// Whether more than one handler runs.
    pub(crate) fn has_several(&self) -> bool {
        self.lock().calls.len() > 1
    }

    /// Whether every call has its answer.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().calls.values().all(|entry| entry.context.is_answered())
    }

    /// Enters a call; `spawn` gets what the handler's task must hold until it ends.
    pub(crate) fn enter(self: &Arc<Self>, sink: WireSink, context: Context, spawn: impl FnOnce(Ended) -> AbortHandle) {
        self.insert(sink, context, |ended| (Some(spawn(ended)), ()));
    }

    /// Enters a call that is answered by a handler which others wait for too.
    pub(crate) fn enter_asker(self: &Arc<Self>, sink: WireSink, context: Context) -> Ended {
        self.insert(sink, context, |ended| (None, ended))
    }

    fn insert<T>(
        self: &Arc<Self>,
        sink: WireSink,
        context: Context,
        begin: impl FnOnce(Ended) -> (Option<AbortHandle>, T),
    ) -> T {
        // The lock is held over the spawn: a handler that ends at once waits for its entry before it removes it.
        let mut table = self.lock();
        table.next_serial += 1;
        let (id, serial) = (sink.id, table.next_serial);
        let (handler, begun) = begin(Ended { running: Arc::clone(self), id, serial });
        table.next_deadline = table.next_deadline.into_iter().chain(context.deadline()).min();
        if table.calls.insert(id, Entry { serial, context, sink, handler }).is_some() {
            // The earlier call with this id has its answer, else it would have been a violation; its task is about to end.
            table.lingering += 1;
        }
        begun
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
        let mut overdue: Vec<Entry> = table
            .calls
            .extract_if(|_, entry| entry.context.deadline().is_some_and(|deadline| now >= deadline))
            .map(|(_, entry)| entry)
            .collect();
        // In the order in which they came, and not as the table happens to hold them.
        overdue.sort_unstable_by_key(|entry| entry.serial);
        table.lingering += overdue.len();
        table.next_deadline = table.calls.values().filter_map(|entry| entry.context.deadline()).min();
        let next = table.next_deadline;
        drop(table);
        let status = Status::new(Code::DeadlineExceeded, "the deadline passed before the handler had ended");
        for entry in overdue {
            entry.end(&status);
        }
        next
    }

    /// Drops all handlers: nobody is left to be answered.
    pub(crate) fn end_all(&self) {
        let mut table = self.lock();
        let mut entries: Vec<Entry> = table.calls.drain().map(|(_, entry)| entry).collect();
        entries.sort_unstable_by_key(|entry| entry.serial);
        table.lingering += entries.len();
        drop(table);
        for entry in entries {
            entry.context.claim_answer(Code::Cancelled);
            entry.give_up();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Answers with `status` unless the handler has answered, and drops the handler.
    fn end(self, status: &Status) -> bool {
        let first = self.context.claim_answer(status.code());
        if first {
            self.sink.refuse(status, None);
            self.give_up();
        }
        first
    }

    fn give_up(self) {
        self.context.cancel();
        if let Some(handler) = self.handler {
            handler.abort();
        }
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
