//! [`SqlDirectory`]: the directory in PostgreSQL or MariaDB.
//!
//! A transaction that changes the sessions of users first locks these users, in the order of their names, then the row
//! of the node. Leases are measured by the clock of the database, so the clocks of the nodes do not matter.

mod rows;

use std::{collections::BTreeMap, time::Duration};

use rpc_core::{BoxFuture, contained};
use tracing::debug;

use super::{ClaimError, ClaimRejection, Directory, DirectoryError, Policy, Renewal, SessionEntry, UserSessions};
use crate::{
    identity::{NodeId, SessionId},
    sql::{Columns as _, Database, DatabaseError, Failure, MAX_BATCH, Session, Statement},
};

/// A [`Directory`] in a PostgreSQL or MariaDB database.
#[derive(Debug, Clone)]
pub struct SqlDirectory {
    database: Database,
}

impl SqlDirectory {
    /// Creates a directory that keeps its entries in this database.
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

impl Directory for SqlDirectory {
    fn renew(&self, node: NodeId, lease: Duration) -> BoxFuture<'_, Result<Renewal, DirectoryError>> {
        Box::pin(async move {
            let write =
                self.database.write((node, lease), |session, (node, lease)| Box::pin(renew(session, *node, *lease)));
            let renewal = write.await?;
            if renewal.acquired
                && let Err(error) = self.remove_expired().await
            {
                // The lease is acquired nevertheless. The next node that joins removes the entries.
                contained(|| debug!(%error, "the entries of expired nodes are not removed"));
            }
            Ok(renewal)
        })
    }

    fn claim(&self, entry: SessionEntry, policy: Policy) -> BoxFuture<'_, Result<Vec<SessionEntry>, ClaimError>> {
        self.database.write((entry, policy), |session, (entry, policy)| Box::pin(claim(session, entry, *policy)))
    }

    fn restore(
        &self,
        node: NodeId,
        entries: Vec<SessionEntry>,
        policy: Policy,
    ) -> BoxFuture<'_, Result<Vec<SessionId>, DirectoryError>> {
        Box::pin(async move {
            let mut lost = Vec::new();
            for entries in by_user(entries).chunks(MAX_BATCH) {
                let request = (node, entries.to_vec(), policy);
                let write = self.database.write(request, |session, (node, entries, policy)| {
                    Box::pin(restore(session, *node, entries, *policy))
                });
                lost.extend(write.await?);
            }
            Ok(lost)
        })
    }

    fn release(&self, entries: Vec<SessionEntry>) -> BoxFuture<'_, Result<(), DirectoryError>> {
        Box::pin(async move {
            for entries in by_user(entries).chunks(MAX_BATCH) {
                let write =
                    self.database.write(entries.to_vec(), |session, entries| Box::pin(release(session, entries)));
                write.await?;
            }
            Ok(())
        })
    }

    fn lookup(&self, users: Vec<String>) -> BoxFuture<'_, Result<Vec<Vec<SessionEntry>>, DirectoryError>> {
        self.database.read(users, |session, users| Box::pin(lookup(session, users)))
    }

    fn leave(&self, node: NodeId) -> BoxFuture<'_, Result<(), DirectoryError>> {
        self.database.write(node, |session, node| Box::pin(leave(session, *node)))
    }
}

impl SqlDirectory {
    /// Removes the entries of nodes that did not renew their leases.
    async fn remove_expired(&self) -> Result<(), DirectoryError> {
        let expired = self.database.read((), |session, ()| Box::pin(rows::expired_nodes::<DirectoryError>(session)));
        for node in expired.await? {
            self.database.write(node, |session, node| Box::pin(remove_expired_node(session, *node))).await?;
        }
        Ok(())
    }
}

/// The result of an operation in a transaction.
type Outcome<T, R = DirectoryError> = Result<T, Failure<R>>;

async fn renew(session: &mut Session, node: NodeId, lease: Duration) -> Outcome<Renewal> {
    let acquired = !rows::lock_node(session, node).await?;
    let lease = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX).min(MAX_LEASE_MILLIS);
    let insert = Statement::new("INSERT INTO im_nodes (node, lease_until) VALUES (?, {now} + ?)")
        .number(node.0)
        .number(lease)
        .or_update(session.engine(), "node", "lease_until");
    session.execute(insert).await?;
    if acquired {
        // Entries of the expired lease must not become valid again.
        session.execute(Statement::new("DELETE FROM im_sessions WHERE node = ?").number(node.0)).await?;
    }
    let select = Statement::new("SELECT session FROM im_replaced WHERE node = ? ORDER BY session").number(node.0);
    let rows = session.rows(select).await?;
    let replaced: Result<_, sqlx::Error> = rows.iter().map(|row| Ok(SessionId(row.number(0)?))).collect();
    Ok(Renewal { incarnation: rows::incarnation(session).await?, acquired, replaced: replaced? })
}

async fn claim(session: &mut Session, entry: &SessionEntry, policy: Policy) -> Outcome<Vec<SessionEntry>, ClaimError> {
    let user = [entry.user.as_str()];
    rows::lock_users(session, &user).await?;
    if !rows::hold_node(session, entry.node).await? {
        return Err(Failure::Refused(ClaimError::NoLease));
    }
    let mut state = rows::sessions(session, &user).await?;
    let mut sessions = UserSessions::new(state.valid.remove(&entry.user).unwrap_or_default());
    if sessions.as_slice().contains(entry) {
        return Ok(Vec::new());
    }
    let replaced = sessions.claim(entry.clone(), policy).map_err(ClaimError::Rejected)?;
    rows::delete(session, &[&state.expired[..], &replaced].concat()).await?;
    rows::insert(session, std::slice::from_ref(entry)).await?;
    rows::report_replaced(session, &replaced).await?;
    Ok(replaced)
}

/// Restores sessions of a few users, which are adjacent; returns those that lose.
async fn restore(
    session: &mut Session,
    node: NodeId,
    entries: &[SessionEntry],
    policy: Policy,
) -> Outcome<Vec<SessionId>> {
    let users = users(entries);
    rows::lock_users(session, &users).await?;
    if !rows::hold_node(session, node).await? {
        return Err(Failure::Refused(DirectoryError("the node does not hold its lease".to_owned())));
    }
    let state = rows::sessions(session, &users).await?;
    let mut lost = Vec::new();
    let mut replaced = Vec::new();
    let mut after: BTreeMap<String, UserSessions> =
        state.valid.iter().map(|(user, known)| (user.clone(), UserSessions::new(known.clone()))).collect();
    for entry in entries {
        match after.entry(entry.user.clone()).or_default().restore(entry.clone(), policy) {
            Ok(others) => replaced.extend(others),
            Err(ClaimRejection::Taken | ClaimRejection::TooMany) => lost.push(entry.session),
        }
    }
    lost.extend(replaced.iter().filter(|other| other.node == node).map(|other| other.session));
    let before: Vec<SessionEntry> = state.valid.into_values().flatten().collect();
    let after: Vec<SessionEntry> = after.into_values().flat_map(UserSessions::into_entries).collect();
    let removed = before.iter().filter(|entry| !after.contains(entry)).chain(&state.expired);
    rows::delete(session, &removed.cloned().collect::<Vec<_>>()).await?;
    let added = after.iter().filter(|entry| !before.contains(entry));
    rows::insert(session, &added.cloned().collect::<Vec<_>>()).await?;
    rows::report_replaced(session, &replaced).await?;
    Ok(lost)
}

async fn release(session: &mut Session, entries: &[SessionEntry]) -> Outcome<()> {
    let users = users(entries);
    rows::lock_users(session, &users).await?;
    rows::delete(session, entries).await?;
    rows::remove_replaced(session, entries).await?;
    rows::forget_users(session, &users).await
}

async fn lookup(session: &mut Session, users: &[String]) -> Outcome<Vec<Vec<SessionEntry>>> {
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    let valid = rows::sessions(session, &names).await?.valid;
    Ok(users.iter().map(|user| valid.get(user).cloned().unwrap_or_default()).collect())
}

async fn leave(session: &mut Session, node: NodeId) -> Outcome<()> {
    rows::lock_node(session, node).await?;
    rows::remove_node(session, node).await
}

async fn remove_expired_node(session: &mut Session, node: NodeId) -> Outcome<()> {
    // The node may have renewed its lease since.
    if rows::lock_node(session, node).await? {
        return Ok(());
    }
    rows::remove_node(session, node).await
}

/// Sorts entries by user. The entries of one user keep their order.
fn by_user(mut entries: Vec<SessionEntry>) -> Vec<SessionEntry> {
    entries.sort_by(|one, other| one.user.cmp(&other.user));
    entries
}

/// Returns the users of sorted entries.
fn users(entries: &[SessionEntry]) -> Vec<&str> {
    let mut users: Vec<&str> = entries.iter().map(|entry| entry.user.as_str()).collect();
    users.dedup();
    users
}

impl From<DatabaseError> for DirectoryError {
    fn from(error: DatabaseError) -> Self {
        Self(error.to_string())
    }
}

impl From<DatabaseError> for ClaimError {
    fn from(error: DatabaseError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<ClaimError> for Failure<ClaimError> {
    fn from(error: ClaimError) -> Self {
        Self::Refused(error)
    }
}

/// The maximum duration of a lease: 24 hours in milliseconds.
const MAX_LEASE_MILLIS: u64 = 24 * 60 * 60 * 1000;
