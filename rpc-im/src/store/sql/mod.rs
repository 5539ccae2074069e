//! [`SqlStore`]: messages in PostgreSQL or MariaDB.
//!
//! | topic | module |
//! |---|---|
//! | appending messages, with edits and recalls | `append`, `batch` |
//! | creating groups, changes of members | `members` |
//! | reading | `read` |
//! | cursors, retention, incarnations | `upkeep` |
//! | exported and imported conversations | `transfer` |
//! | rows of the tables; results of statements | `rows`, `outcome` |
//!
//! A write to a conversation locks its row first, so writes to one conversation are serial, and the messages of the
//! conversation have sequence numbers without gaps and times that never decrease.

mod append;
mod batch;
mod members;
mod outcome;
mod read;
mod rows;
mod transfer;
mod upkeep;

use rpc_core::BoxFuture;

use super::{
    Append, Appended, ConversationInfo, Cursor, MemberPage, MembersChange, MessagePage, MessageStore, NewConversation,
    PageRequest, StoreError,
    transfer::{ExportedConversation, ImportPart, Transfer},
};
use crate::sql::{Database, DatabaseError, Failure, MAX_BATCH};

/// A [`MessageStore`] in a PostgreSQL or MariaDB database.
#[derive(Debug, Clone)]
pub struct SqlStore {
    database: Database,
}

impl SqlStore {
    /// Creates a store that keeps its messages in this database.
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

impl MessageStore for SqlStore {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.database.write(append, |session, append| Box::pin(append::append(session, append)))
    }

    fn create(&self, conversation: NewConversation) -> BoxFuture<'_, Result<ConversationInfo, StoreError>> {
        self.database.write(conversation, |session, new| Box::pin(members::create(session, new)))
    }

    fn read(
        &self,
        conversation: String,
        user: String,
        page: PageRequest,
    ) -> BoxFuture<'_, Result<MessagePage, StoreError>> {
        self.database.read((conversation, user, page), |session, (conversation, user, page)| {
            Box::pin(read::messages(session, conversation, user, *page))
        })
    }

    fn conversation(&self, conversation: String, user: String) -> BoxFuture<'_, Result<ConversationInfo, StoreError>> {
        self.database.read((conversation, user), |session, (conversation, user)| {
            Box::pin(read::conversation(session, conversation, user))
        })
    }

    fn conversations(
        &self,
        user: String,
        after: String,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ConversationInfo>, StoreError>> {
        self.database.read((user, after, limit), |session, (user, after, limit)| {
            Box::pin(read::conversations(session, user, after, *limit))
        })
    }

    fn members(
        &self,
        conversation: String,
        after: String,
        limit: usize,
    ) -> BoxFuture<'_, Result<MemberPage, StoreError>> {
        self.database.read((conversation, after, limit), |session, (conversation, after, limit)| {
            Box::pin(read::members(session, conversation, after, *limit))
        })
    }

    fn change_members(&self, change: MembersChange) -> BoxFuture<'_, Result<Appended, StoreError>> {
        self.database.write(change, |session, change| Box::pin(members::change(session, change)))
    }

    fn set_cursors(&self, cursors: Vec<Cursor>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            for cursors in upkeep::merged(cursors).chunks(MAX_BATCH) {
                let write = self
                    .database
                    .write(cursors.to_vec(), |session, cursors| Box::pin(upkeep::set_cursors(session, cursors)));
                write.await?;
            }
            Ok(())
        })
    }

    fn remove_before(&self, before: u64, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            let read = self
                .database
                .read((before, limit), |session, (before, limit)| Box::pin(upkeep::expired(session, *before, *limit)));
            let mut removed = 0;
            // A transaction for each conversation, so that each is locked for a short time only.
            for (conversation, count) in read.await? {
                let request = (conversation, before, count);
                let write = self.database.write(request, |session, (conversation, before, count)| {
                    Box::pin(upkeep::remove(session, conversation, *before, *count))
                });
                removed += write.await?;
            }
            Ok(removed)
        })
    }

    fn renew_incarnations(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let (mut renewed, mut after) = (0, String::new());
            loop {
                let write =
                    self.database.write(after, |session, after| Box::pin(upkeep::renew_incarnations(session, after)));
                let Some((count, last)) = write.await? else { return Ok(renewed) };
                renewed += count;
                after = last;
            }
        })
    }
}

impl Transfer for SqlStore {
    fn all_conversations(
        &self,
        after: String,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ExportedConversation>, StoreError>> {
        self.database.read((after, limit), |session, (after, limit)| {
            Box::pin(transfer::all_conversations(session, after, *limit))
        })
    }

    fn import(&self, part: ImportPart) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.database.write(part, |session, part| Box::pin(transfer::import(session, part)))
    }
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<StoreError> for Failure<StoreError> {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}
