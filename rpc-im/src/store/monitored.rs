//! [`MonitoredStore`]: a store that records whether it answers.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rpc_core::BoxFuture;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Append, Appended, ConversationInfo, Cursor, MemberPage, MembersChange, MessagePage, MessageStore, NewConversation,
    PageRequest, StoreError,
};

/// A store that records whether it answers reads and writes.
pub(crate) struct MonitoredStore {
    store: Arc<dyn MessageStore>,
    reads: Outcomes,
    writes: Outcomes,
}

/// The outcomes of one kind of request.
#[derive(Default)]
struct Outcomes(Mutex<Option<Instant>>);

impl Outcomes {
    /// Records the outcome of a request of a client.
    fn record<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        let failed_at = matches!(outcome, Err(StoreError::Unavailable(_))).then(Instant::now);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = failed_at;
        outcome
    }

    /// Records the outcome of a probe. It ends the failure of a client's request only after [`FAILURE_KEPT`], because a
    /// probe writes nothing, and may succeed on a full disk.
    fn record_probe(&self, answers: bool) {
        let mut failed_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *failed_at {
            _ if !answers => *failed_at = Some(Instant::now()),
            Some(failed) if failed.elapsed() >= FAILURE_KEPT => *failed_at = None,
            _ => {}
        }
    }

    fn has_failed(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl MonitoredStore {
    pub(crate) fn new(store: Arc<dyn MessageStore>) -> Self {
        Self { store, reads: Outcomes::default(), writes: Outcomes::default() }
    }

    /// Returns whether the store has answered the last read and the last write.
    pub(crate) fn is_available(&self) -> bool {
        !self.reads.has_failed() && !self.writes.has_failed()
    }

    /// Probes the store until dropped: with a read, and while writes fail also with a write that changes nothing.
    pub(crate) async fn run(&self, interval: Duration) {
        loop {
            sleep(interval).await;
            let read = timeout(PROBE_TIME, self.store.conversations(String::new(), String::new(), 1));
            self.reads.record_probe(matches!(read.await, Ok(Ok(_))));
            if self.writes.has_failed() {
                let cursor = Cursor { conversation: String::new(), user: String::new(), delivered: 0, read: 0 };
                let write = timeout(PROBE_TIME, self.store.set_cursors(vec![cursor]));
                self.writes.record_probe(matches!(write.await, Ok(Ok(()))));
            }
        }
    }
}

impl MessageStore for MonitoredStore {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, StoreError>> {
        Box::pin(async move { self.writes.record(self.store.append(append).await) })
    }

    fn create(&self, conversation: NewConversation) -> BoxFuture<'_, Result<ConversationInfo, StoreError>> {
        Box::pin(async move { self.writes.record(self.store.create(conversation).await) })
    }

    fn read(
        &self,
        conversation: String,
        user: String,
        page: PageRequest,
    ) -> BoxFuture<'_, Result<MessagePage, StoreError>> {
        Box::pin(async move { self.reads.record(self.store.read(conversation, user, page).await) })
    }

    fn conversation(&self, conversation: String, user: String) -> BoxFuture<'_, Result<ConversationInfo, StoreError>> {
        Box::pin(async move { self.reads.record(self.store.conversation(conversation, user).await) })
    }

    fn conversations(
        &self,
        user: String,
        after: String,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ConversationInfo>, StoreError>> {
        Box::pin(async move { self.reads.record(self.store.conversations(user, after, limit).await) })
    }

    fn members(
        &self,
        conversation: String,
        after: String,
        limit: usize,
    ) -> BoxFuture<'_, Result<MemberPage, StoreError>> {
        Box::pin(async move { self.reads.record(self.store.members(conversation, after, limit).await) })
    }

    fn change_members(&self, change: MembersChange) -> BoxFuture<'_, Result<Appended, StoreError>> {
        Box::pin(async move { self.writes.record(self.store.change_members(change).await) })
    }

    fn set_cursors(&self, cursors: Vec<Cursor>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.writes.record(self.store.set_cursors(cursors).await) })
    }

    fn remove_before(&self, before: u64, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.store.remove_before(before, limit)
    }

    fn renew_incarnations(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.store.renew_incarnations()
    }
}

/// The time for which a failure of a client's request is reported at least, unless another one succeeds.
const FAILURE_KEPT: Duration = Duration::from_secs(10);
/// The time limit of a probe.
const PROBE_TIME: Duration = Duration::from_secs(3);
