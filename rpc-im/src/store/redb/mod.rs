//! [`RedbStore`]: a store in a redb file, with one writer and group commit.
//!
//! | topic | module |
//! |---|---|
//! | the file, which is opened again after its disk has failed | `database_file` |
//! | tables and rows | `tables` |
//! | writes, inside one transaction | `write` |
//! | reads | `read` |
//! | exported and imported conversations | `transfer` |
//! | errors | `error` |

mod database_file;
mod error;
mod read;
mod tables;
mod transfer;
mod write;

use std::{
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
};

use database_file::{DatabaseFile, Reopening};
use error::{WriteError, failed};
use redb::{Database, ReadTransaction, ReadableDatabase as _};
use rpc_core::BoxFuture;
use tables::Tables;
use tokio::sync::{mpsc, oneshot};

use super::{
    Append, Appended, ConversationInfo, Cursor, MemberPage, MembersChange, MessagePage, MessageStore, NewConversation,
    PageRequest, StoreError,
    transfer::{ExportedConversation, ImportPart, Transfer},
};

/// A store in a file or in memory, for one process.
///
/// One thread does all writes. It applies all waiting writes in one transaction and completes them after the commit, so
/// that under load many messages share one disk sync. Each read is its own transaction and never waits for a write.
///
/// After an error of the disk, such as a full one, the store rejects requests until it could open the file again, which
/// it tries about once per second while there are requests.
pub struct RedbStore {
    database: Arc<DatabaseFile>,
    /// `None` only in `drop`.
    writes: Option<mpsc::Sender<Write>>,
    writer: Option<JoinHandle<()>>,
}

/// A write, which runs in a transaction of the writer, and the function that reports its outcome after the commit.
type Write = Box<dyn FnOnce(&mut Tables<'_>) -> Result<Report, StoreError> + Send>;
/// Reports the outcome of a write: `Ok` after the commit, or the error of the transaction.
type Report = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

impl RedbStore {
    /// Opens or creates the file. Without a path, the store is in memory and is lost when the process ends.
    ///
    /// # Errors
    ///
    /// An error if the file cannot be opened, is open in another process, or is damaged.
    pub fn open(path: Option<&Path>) -> Result<Self, StoreError> {
        let database = Arc::new(DatabaseFile::open(path)?);
        let (writes, waiting) = mpsc::channel(MAX_WAITING);
        let writing = Arc::clone(&database);
        let writer = thread::Builder::new().name("im-store".to_owned()).spawn(move || run_writer(&writing, waiting));
        let writer = writer.map_err(failed)?;
        Ok(Self { database, writes: Some(writes), writer: Some(writer) })
    }

    /// Queues a write; the future completes after its commit.
    ///
    /// A write that returns an error must not have changed a table.
    fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Tables<'_>) -> Result<T, WriteError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let writes = self.writes.as_ref().expect("`writes` is `Some` until `drop`");
        let (done, outcome) = oneshot::channel();
        let queued: Write = Box::new(move |tables| {
            let result = match write(tables) {
                Ok(value) => Ok(value),
                Err(WriteError::Rejected(rejection)) => Err(rejection),
                Err(WriteError::Failed(failure)) => return Err(failure),
            };
            Ok(Box::new(move |committed| {
                // Ignore a caller that was dropped.
                let _ = done.send(committed.and(result));
            }))
        });
        Box::pin(async move {
            let ended = |_| StoreError::Unavailable("the writer of the store has ended".to_owned());
            writes.send(queued).await.map_err(|_| ended(()))?;
            // A write whose transaction failed is dropped without a report.
            outcome.await.map_err(|_| StoreError::Unavailable("the disk of the store failed".to_owned()))?
        })
    }

    /// Runs a read on a blocking thread, because it may wait for the disk.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let database = Arc::clone(&self.database);
        Box::pin(async move {
            let reading = tokio::task::spawn_blocking(move || {
                database.with(|database| read(&database.begin_read().map_err(failed)?))
            });
            let outcome = reading.await.unwrap_or_else(|error| Err(failed(error)));
            if let (Err(StoreError::Unavailable(_)), Some(writes)) = (&outcome, &self.writes) {
                // A write without effect lets the writer open the file again. A full queue has other writes.
                let _ = writes.try_send(Box::new(|_| Ok(Box::new(|_| ()))));
            }
            outcome
        })
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        // Closing the queue ends the writer after the queued writes.
        self.writes = None;
        if let Some(writer) = self.writer.take() {
            // Ignore a panic of the writer: its waiters have received an error.
            let _ = writer.join();
        }
    }
}

impl MessageStore for RedbStore {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.write(move |tables| tables.append(&append))
    }

    fn create(&self, conversation: NewConversation) -> BoxFuture<'_, Result<ConversationInfo, StoreError>> {
        self.write(move |tables| tables.create(&conversation))
    }

    fn read(
        &self,
        conversation: String,
        user: String,
        page: PageRequest,
    ) -> BoxFuture<'_, Result<MessagePage, StoreError>> {
        self.read(move |transaction| read::messages(transaction, &conversation, &user, page))
    }

    fn conversation(&self, conversation: String, user: String) -> BoxFuture<'_, Result<ConversationInfo, StoreError>> {
        self.read(move |transaction| read::conversation(transaction, &conversation, &user))
    }

    fn conversations(
        &self,
        user: String,
        after: String,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ConversationInfo>, StoreError>> {
        self.read(move |transaction| read::conversations(transaction, &user, &after, limit))
    }

    fn members(
        &self,
        conversation: String,
        after: String,
        limit: usize,
    ) -> BoxFuture<'_, Result<MemberPage, StoreError>> {
        self.read(move |transaction| read::members(transaction, &conversation, &after, limit))
    }

    fn change_members(&self, change: MembersChange) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.write(move |tables| tables.change_members(&change))
    }

    fn set_cursors(&self, cursors: Vec<Cursor>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(move |tables| cursors.iter().try_for_each(|cursor| tables.set_cursor(cursor)))
    }

    fn remove_before(&self, before: u64, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            let expired = self.read(move |transaction| read::expired(transaction, before, limit)).await?;
            self.write(move |tables| {
                expired.iter().try_fold(0, |removed, (conversation, first)| {
                    Ok(removed + tables.remove_until(conversation, *first)?)
                })
            })
            .await
        })
    }

    fn renew_incarnations(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.write(|tables| tables.renew_incarnations())
    }
}

impl Transfer for RedbStore {
    fn all_conversations(
        &self,
        after: String,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ExportedConversation>, StoreError>> {
        self.read(move |transaction| transfer::all_conversations(transaction, &after, limit))
    }

    fn import(&self, part: ImportPart) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.write(move |tables| tables.import(&part))
    }
}

/// Runs the writer: commits all waiting writes, up to [`MAX_GROUP`], in one transaction.
fn run_writer(database: &DatabaseFile, mut waiting: mpsc::Receiver<Write>) {
    let mut reopening = Reopening::default();
    while let Some(first) = waiting.blocking_recv() {
        let mut group = vec![first];
        while group.len() < MAX_GROUP
            && let Ok(next) = waiting.try_recv()
        {
            group.push(next);
        }
        database.reopen_if_failed(&mut reopening);
        match database.with(|database| commit(database, group)) {
            Ok(reports) => reports.into_iter().for_each(|report| report(Ok(()))),
            // The reports are dropped, which the callers receive as an error.
            Err(_) => reopening.is_suspected = true,
        }
    }
}

fn commit(database: &Database, group: Vec<Write>) -> Result<Vec<Report>, StoreError> {
    let transaction = database.begin_write().map_err(failed)?;
    let reports = {
        let mut tables = Tables::open(&transaction)?;
        group.into_iter().map(|write| write(&mut tables)).collect::<Result<_, _>>()?
    };
    transaction.commit().map_err(failed)?;
    Ok(reports)
}

/// The maximum number of writes that wait for the writer; further callers wait.
const MAX_WAITING: usize = 4096;
/// The maximum number of writes in one transaction.
const MAX_GROUP: usize = 1024;
