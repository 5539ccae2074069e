//! [`RedbStore`]: a store in a redb file, with one writer and group commit.

use std::{
    ops::Bound,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
};

use prost::Message as _;
use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
    backends::InMemoryBackend,
};
use rpc_core::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::{Change, Header, Limits, Record, SentAs, Store, StoreError};

/// A store in a file or in memory.
///
/// One thread does all writes. It applies all waiting writes in one transaction and completes them after the commit, so
/// that under load many messages share one disk sync. Each read is its own transaction and never waits for a write.
pub(crate) struct RedbStore {
    database: Arc<Database>,
    /// `None` only in `drop`.
    writes: Option<mpsc::Sender<Write>>,
    writer: Option<JoinHandle<()>>,
}

type Write = (WriteOp, oneshot::Sender<Result<(), StoreError>>);

/// An atomic write.
enum WriteOp {
    Change(Change),
    Nodes(u64),
}

impl RedbStore {
    /// Opens or creates the file. Without a path, the store is in memory and is lost when the process ends.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, StoreError> {
        let database = match path {
            Some(path) => Database::create(path)?,
            None => Database::builder().create_with_backend(InMemoryBackend::new())?,
        };
        let begin = database.begin_write()?;
        // Create all tables: opening a missing table in a read transaction is an error.
        Tables::open(&begin)?;
        begin.commit()?;
        let database = Arc::new(database);
        let (writes, waiting) = mpsc::channel(MAX_WAITING);
        let writing = Arc::clone(&database);
        let writer = thread::Builder::new().name("im-store".to_owned()).spawn(move || write(&writing, waiting));
        let writer = writer.map_err(|error| StoreError(error.to_string()))?;
        Ok(Self { database, writes: Some(writes), writer: Some(writer) })
    }

    /// Queues a write; the future completes after its commit.
    fn write(&self, op: WriteOp) -> BoxFuture<'_, Result<(), StoreError>> {
        let writes = self.writes.as_ref().expect("`writes` is `Some` until `drop`");
        let (done, outcome) = oneshot::channel();
        Box::pin(async move {
            let writer_ended = |_| StoreError("writer thread has ended".to_owned());
            writes.send((op, done)).await.map_err(|_| writer_ended(()))?;
            outcome.await.map_err(|_| writer_ended(()))?
        })
    }

    /// Returns a named number, or 0 if it is not stored.
    fn number(&self, name: &'static str) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.read(move |read| Ok(read.open_table(NUMBERS)?.get(name)?.map_or(0, |number| number.value())))
    }

    /// Runs a read on a blocking thread, because it may wait for the disk.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let database = Arc::clone(&self.database);
        Box::pin(async move {
            let reading = tokio::task::spawn_blocking(move || read(&database.begin_read()?));
            reading.await.unwrap_or_else(|error| Err(StoreError(error.to_string())))
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

impl Store for RedbStore {
    fn change(&self, change: Change) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(WriteOp::Change(change))
    }

    fn header(&self, conversation: String) -> BoxFuture<'_, Result<Option<Header>, StoreError>> {
        self.read(move |read| {
            let headers = read.open_table(HEADERS)?;
            headers.get(conversation.as_str())?.map(|bytes| decode(bytes.value())).transpose()
        })
    }

    fn records(
        &self,
        conversation: String,
        after: u64,
        to: u64,
        limits: Limits,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.read(move |read| {
            let mut records = Vec::new();
            if after >= to {
                return Ok(records);
            }
            let (mut bytes, name) = (0, conversation.as_str());
            for entry in read.open_table(RECORDS)?.range((name, after + 1)..=(name, to))? {
                let (_, value) = entry?;
                bytes += value.value().len();
                if records.len() >= limits.records || (bytes > limits.bytes && !records.is_empty()) {
                    break;
                }
                records.push(decode(value.value())?);
            }
            Ok(records)
        })
    }

    fn find(
        &self,
        conversation: String,
        wanted: Vec<SentAs>,
    ) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>> {
        self.read(move |read| {
            let (sent, records) = (read.open_table(SENT)?, read.open_table(RECORDS)?);
            let find = |SentAs { from, device, id }: &SentAs| {
                let Some(seq) = sent.get((conversation.as_str(), from.as_str(), device.as_str(), id.as_str()))? else {
                    return Ok(None);
                };
                let record = records.get((conversation.as_str(), seq.value()))?;
                record.map(|bytes| decode(bytes.value())).transpose()
            };
            wanted.iter().map(find).collect()
        })
    }

    fn of_user(&self, user: String, after: String, limits: Limits) -> BoxFuture<'_, Result<Vec<Header>, StoreError>> {
        self.read(move |read| {
            let headers = read.open_table(HEADERS)?;
            let (mut found, mut bytes) = (Vec::new(), 0);
            let after = (Bound::Excluded((user.as_str(), after.as_str())), Bound::Unbounded);
            for entry in read.open_table(MEMBERS)?.range::<(&str, &str)>(after)? {
                let (key, _) = entry?;
                let (member, conversation) = key.value();
                if member != user {
                    break;
                }
                let Some(header) = headers.get(conversation)? else { continue };
                bytes += header.value().len();
                if found.len() >= limits.records || (bytes > limits.bytes && !found.is_empty()) {
                    break;
                }
                found.push(decode(header.value())?);
            }
            Ok(found)
        })
    }

    fn page(&self, after: String, limit: usize) -> BoxFuture<'_, Result<Vec<Header>, StoreError>> {
        self.read(move |read| {
            let headers = read.open_table(HEADERS)?;
            let after = (Bound::Excluded(after.as_str()), Bound::Unbounded);
            headers.range::<&str>(after)?.take(limit).map(|entry| decode(entry?.1.value())).collect()
        })
    }

    fn greatest_message(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.number(GREATEST_MESSAGE)
    }

    fn set_nodes(&self, nodes: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(WriteOp::Nodes(nodes))
    }

    fn nodes(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.number(NODES)
    }
}

/// Runs the writer: commits all waiting writes, up to [`MAX_GROUP`], in one transaction.
fn write(database: &Database, mut waiting: mpsc::Receiver<Write>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut group = vec![first];
        while group.len() < MAX_GROUP
            && let Ok(next) = waiting.try_recv()
        {
            group.push(next);
        }
        let (ops, waiters): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let outcome = commit(database, &ops);
        for waiter in waiters {
            // Ignore a waiter that was dropped.
            let _ = waiter.send(outcome.clone());
        }
    }
}

fn commit(database: &Database, ops: &[WriteOp]) -> Result<(), StoreError> {
    let transaction = database.begin_write()?;
    {
        let mut tables = Tables::open(&transaction)?;
        for op in ops {
            match op {
                WriteOp::Change(change) => tables.apply(change)?,
                WriteOp::Nodes(nodes) => drop(tables.numbers.insert(NODES, nodes)?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

struct Tables<'t> {
    headers: redb::Table<'t, &'static str, &'static [u8]>,
    records: redb::Table<'t, (&'static str, u64), &'static [u8]>,
    sent: redb::Table<'t, SentKey, u64>,
    members: redb::Table<'t, (&'static str, &'static str), ()>,
    numbers: redb::Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            headers: transaction.open_table(HEADERS)?,
            records: transaction.open_table(RECORDS)?,
            sent: transaction.open_table(SENT)?,
            members: transaction.open_table(MEMBERS)?,
            numbers: transaction.open_table(NUMBERS)?,
        })
    }

    fn apply(&mut self, Change { header, keep, records }: &Change) -> Result<(), StoreError> {
        let name = header.conversation.as_str();
        let before: Option<Header> = self.headers.get(name)?.map(|bytes| decode(bytes.value())).transpose()?;
        if before.as_ref().is_some_and(|before| before.last > *keep) {
            let removed = self.records.extract_from_if((name, keep + 1)..=(name, u64::MAX), |_, _| true)?;
            for entry in removed {
                let record: Record = decode(entry?.1.value())?;
                self.sent.remove(sent_as(name, &record))?;
            }
        }
        if before.is_none_or(|before| before.members != header.members) {
            for member in &header.members {
                self.members.insert((member.as_str(), name), ())?;
            }
        }
        for record in records {
            self.records.insert((name, record.seq), record.encode_to_vec().as_slice())?;
            self.sent.insert(sent_as(name, record), record.seq)?;
        }
        if let Some(greatest) = records.iter().map(|record| record.message).max() {
            let known = self.numbers.get(GREATEST_MESSAGE)?.map_or(0, |number| number.value());
            if greatest > known {
                self.numbers.insert(GREATEST_MESSAGE, greatest)?;
            }
        }
        self.headers.insert(name, header.encode_to_vec().as_slice())?;
        Ok(())
    }
}

type SentKey = (&'static str, &'static str, &'static str, &'static str);

fn sent_as<'a>(conversation: &'a str, record: &'a Record) -> (&'a str, &'a str, &'a str, &'a str) {
    (conversation, &record.from, &record.device, &record.id)
}

fn decode<T: prost::Message + Default>(bytes: &[u8]) -> Result<T, StoreError> {
    T::decode(bytes).map_err(|error| StoreError(format!("cannot decode an entry: {error}")))
}

macro_rules! store_errors {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self(error.to_string())
            }
        }
    )*};
}

store_errors!(redb::DatabaseError, redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);

/// Conversation → encoded [`Header`].
const HEADERS: TableDefinition<&str, &[u8]> = TableDefinition::new("headers");
/// Conversation and sequence number → encoded [`Record`].
const RECORDS: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("records");
/// Conversation, sender, device and the device's id of the message → sequence number.
const SENT: TableDefinition<SentKey, u64> = TableDefinition::new("sent");
/// The set of pairs of user and conversation.
const MEMBERS: TableDefinition<(&str, &str), ()> = TableDefinition::new("members");
/// Name → number: [`NODES`] and [`GREATEST_MESSAGE`].
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
/// The last stored number of nodes.
const NODES: &str = "nodes";
/// The greatest message id.
const GREATEST_MESSAGE: &str = "greatest message";

/// The maximum number of writes that wait for the writer; further callers wait.
const MAX_WAITING: usize = 4096;
/// The maximum number of writes in one transaction.
const MAX_GROUP: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64, body: &str) -> Record {
        let (from, id) = ("ann".to_owned(), format!("c-{seq}-{body}"));
        Record { seq, message: seq * 10, from, id, body: body.to_owned(), device: "browser".to_owned() }
    }

    fn change(keep: u64, records: Vec<Record>) -> Change {
        let last = keep + records.len() as u64;
        let members = vec!["ann".to_owned(), "bo".to_owned()];
        let header = Header { conversation: "c".to_owned(), members, last, ..Header::default() };
        Change { header, keep, records }
    }

    const ALL: Limits = Limits { records: 100, bytes: 1 << 20 };

    async fn bodies(store: &RedbStore) -> Vec<String> {
        let records = store.records("c".to_owned(), 0, u64::MAX, ALL).await.unwrap();
        records.into_iter().map(|record| record.body).collect()
    }

    #[tokio::test]
    async fn store_survives_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let store = RedbStore::open(Some(&path)).unwrap();
        store.change(change(0, vec![record(1, "a"), record(2, "b")])).await.unwrap();
        assert_eq!(store.nodes().await.unwrap(), 0);
        store.set_nodes(3).await.unwrap();
        drop(store);
        let store = RedbStore::open(Some(&path)).unwrap();
        assert_eq!(store.nodes().await.unwrap(), 3);
        assert_eq!(bodies(&store).await, ["a", "b"]);
        assert_eq!(store.greatest_message().await.unwrap(), 20);
        let of_bo = store.of_user("bo".to_owned(), String::new(), ALL).await.unwrap();
        assert_eq!(of_bo.len(), 1);
        assert_eq!(of_bo[0].last, 2);
        assert!(store.of_user("b".to_owned(), String::new(), ALL).await.unwrap().is_empty());
        assert!(
            store.of_user("bo".to_owned(), "c".to_owned(), ALL).await.unwrap().is_empty(),
            "the first page has all conversations"
        );
        assert_eq!(store.page(String::new(), 5).await.unwrap().len(), 1);
        assert!(store.page("c".to_owned(), 5).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn change_removes_replaced_messages_and_their_keys() {
        let store = RedbStore::open(None).unwrap();
        store.change(change(0, vec![record(1, "a"), record(2, "b"), record(3, "c")])).await.unwrap();
        store.change(change(1, vec![record(2, "x")])).await.unwrap();
        assert_eq!(bodies(&store).await, ["a", "x"]);
        let sent = |id: &str| SentAs { from: "ann".to_owned(), device: "browser".to_owned(), id: id.to_owned() };
        let wanted = ["c-2-b", "c-2-x", "c-3-c"].map(sent).to_vec();
        let found = store.find("c".to_owned(), wanted).await.unwrap();
        assert_eq!(found, [None, Some(record(2, "x")), None]);
    }

    #[tokio::test]
    async fn records_respect_limits_but_return_one() {
        let store = RedbStore::open(None).unwrap();
        let records = (1..=5).map(|seq| record(seq, &"x".repeat(100))).collect();
        store.change(change(0, records)).await.unwrap();
        let page = |after, to, records, bytes| store.records("c".to_owned(), after, to, Limits { records, bytes });
        assert_eq!(page(0, 9, 2, 1 << 20).await.unwrap().len(), 2);
        assert_eq!(page(0, 9, 9, 250).await.unwrap().len(), 1);
        assert_eq!(page(0, 9, 9, 1).await.unwrap().len(), 1);
        assert_eq!(page(3, 4, 9, 1 << 20).await.unwrap()[0].seq, 4);
        assert!(page(4, 4, 9, 1 << 20).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn of_user_returns_conversations_in_pages() {
        let store = RedbStore::open(None).unwrap();
        for name in ["a", "b", "c"] {
            let members = vec!["ann".to_owned(), "x".repeat(100)];
            let header = Header { conversation: name.to_owned(), members, ..Header::default() };
            store.change(Change { header, keep: 0, records: Vec::new() }).await.unwrap();
        }
        let names = async |after: &str, records, bytes| {
            let page = store.of_user("ann".to_owned(), after.to_owned(), Limits { records, bytes }).await.unwrap();
            page.into_iter().map(|header| header.conversation).collect::<String>()
        };
        assert_eq!(names("", 9, 1 << 20).await, "abc");
        assert_eq!(names("", 2, 1 << 20).await, "ab");
        assert_eq!(names("", 9, 250).await, "ab");
        assert_eq!(names("a", 9, 1).await, "b", "at least one");
        assert_eq!(names("c", 9, 1 << 20).await, "");
    }

    #[tokio::test]
    async fn store_keeps_concurrent_writes() {
        let store = RedbStore::open(None).unwrap();
        let write = |number: u64| {
            let header = Header { conversation: format!("c-{number}"), last: 1, ..Header::default() };
            store.change(Change { header, keep: 0, records: vec![record(1, "a")] })
        };
        futures_util::future::try_join_all((0..3000).map(write)).await.unwrap();
        assert_eq!(store.page(String::new(), 5000).await.unwrap().len(), 3000);
    }
}
