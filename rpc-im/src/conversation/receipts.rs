//! [`Receipts`]: stores how far members have received and read, and reports it to the other members.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moka::future::Cache;
use rpc_core::contained;
use tokio::{sync::Notify, time::sleep};
use tracing::debug;

use crate::{
    cluster::{delivery::Delivery, message::NodeMessage},
    envelope::{Receipt, ServerFrame},
    store::{Audience, Cursor, MessageStore},
};

/// Stores how far members have received and read, and reports it to the other members.
///
/// Reports of one member within [`FLUSH_INTERVAL`] are combined into one write.
pub(crate) struct Receipts {
    store: Arc<dyn MessageStore>,
    delivery: Arc<Delivery>,
    pending: Mutex<HashMap<(String, String), Progress>>,
    recorded: Notify,
    /// The members of conversations with recent receipts.
    audiences: Cache<String, Arc<Audience>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    delivered: u64,
    read: u64,
}

impl Receipts {
    pub(crate) fn new(store: Arc<dyn MessageStore>, delivery: Arc<Delivery>) -> Self {
        let audiences = Cache::builder().max_capacity(MAX_AUDIENCES).time_to_live(AUDIENCE_AGE).build();
        Self { store, delivery, pending: Mutex::default(), recorded: Notify::new(), audiences }
    }

    /// Records how far a member has received (`delivered`) or read a conversation; 0 for no change.
    ///
    /// Above [`MAX_PENDING`] members it is ignored: a later report of the client covers it.
    pub(crate) fn record(&self, conversation: String, user: &str, delivered: u64, read: u64) {
        let mut pending = self.pending();
        let key = (conversation, user.to_owned());
        if pending.len() < MAX_PENDING || pending.contains_key(&key) {
            let progress = pending.entry(key).or_default();
            progress.delivered = progress.delivered.max(delivered);
            progress.read = progress.read.max(read);
            self.recorded.notify_one();
        }
    }

    /// Stores and reports the recorded progress until dropped.
    pub(crate) async fn run(&self) {
        loop {
            self.recorded.notified().await;
            sleep(FLUSH_INTERVAL).await;
            let pending: Vec<_> = mem::take(&mut *self.pending()).into_iter().collect();
            let mut stored = Vec::with_capacity(pending.len());
            for part in pending.chunks(MAX_BATCH) {
                let cursor = |((conversation, user), Progress { delivered, read }): &(_, _)| Cursor {
                    conversation: String::clone(conversation),
                    user: String::clone(user),
                    delivered: *delivered,
                    read: *read,
                };
                let cursors: Vec<_> = part.iter().map(cursor).collect();
                match self.store.set_cursors(cursors.clone()).await {
                    Ok(()) => stored.extend(cursors),
                    Err(error) => {
                        contained(|| debug!(%error, "storing receipts failed; later ones cover them"));
                    }
                }
            }
            self.report(stored).await;
        }
    }

    async fn report(&self, cursors: Vec<Cursor>) {
        for cursor in cursors {
            let Some(audience) = self.audience(&cursor).await else { continue };
            if audience.members.len() > MAX_REPORTED_MEMBERS || !audience.members.contains(&cursor.user) {
                continue;
            }
            let Cursor { conversation, user, delivered, read } = cursor;
            let receipt = NodeMessage::frame(ServerFrame::Receipt(Receipt { conversation, user, delivered, read }));
            self.delivery.send_to_users(&audience.members, &[(receipt, None)]).await;
        }
    }

    /// Returns the members of a conversation, perhaps as of [`AUDIENCE_AGE`] ago; `None` if the user is not one.
    async fn audience(&self, cursor: &Cursor) -> Option<Arc<Audience>> {
        if let Some(known) = self.audiences.get(&cursor.conversation).await {
            return Some(known);
        }
        let info = self.store.conversation(cursor.conversation.clone(), cursor.user.clone()).await.ok()?;
        let audience = Arc::new(info.audience);
        self.audiences.insert(cursor.conversation.clone(), Arc::clone(&audience)).await;
        Some(audience)
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<(String, String), Progress>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time for which reports of clients are combined.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);
/// The maximum number of members whose progress waits to be stored.
const MAX_PENDING: usize = 65_536;
/// The maximum number of cursors in one write.
const MAX_BATCH: usize = 500;
/// The maximum number of members of a conversation whose receipts are sent to all members.
const MAX_REPORTED_MEMBERS: usize = 20;
/// The maximum number of conversations whose members are cached for receipts.
const MAX_AUDIENCES: u64 = 10_000;
/// The maximum age of cached members for receipts.
const AUDIENCE_AGE: Duration = Duration::from_secs(10);
