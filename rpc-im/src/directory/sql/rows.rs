//! Rows of the tables of nodes, logins, sessions and replaced sessions.

use std::collections::BTreeMap;

use crate::{
    directory::SessionEntry,
    identity::{NodeId, SessionId},
    sql::{Columns as _, Failure, MAX_BATCH, Session, Statement, batches, padded, placeholders},
};

/// The sessions of some users.
#[derive(Default)]
pub(super) struct Sessions {
    /// The sessions of nodes that hold their leases, by user.
    pub(super) valid: BTreeMap<String, Vec<SessionEntry>>,
    /// The sessions of other nodes.
    pub(super) expired: Vec<SessionEntry>,
}

/// Locks users, whose names are sorted, until the transaction ends.
pub(super) async fn lock_users<R>(session: &mut Session, users: &[&str]) -> Result<(), Failure<R>> {
    for batch in batches(users, MAX_BATCH) {
        let list = placeholders(batch.len(), "(?)", ", ");
        let mut insert = Statement::new(format!("INSERT INTO im_logins (user_name) VALUES {list}"));
        for user in batch {
            insert = insert.text(user);
        }
        session.execute(insert.or_update(session.engine(), "user_name", "user_name")).await?;
    }
    Ok(())
}

/// Removes the lock rows of locked users without sessions.
pub(super) async fn forget_users<R>(session: &mut Session, users: &[&str]) -> Result<(), Failure<R>> {
    for users in padded(users) {
        let mut delete = Statement::new(format!(
            "DELETE FROM im_logins WHERE user_name IN ({}) \
             AND NOT EXISTS (SELECT 1 FROM im_sessions s WHERE s.user_name = im_logins.user_name)",
            placeholders(users.len(), "?", ", ")
        ));
        for user in users {
            delete = delete.text(user);
        }
        session.execute(delete).await?;
    }
    Ok(())
}

/// Locks a node; returns whether it holds its lease.
pub(super) async fn lock_node<R>(session: &mut Session, node: NodeId) -> Result<bool, Failure<R>> {
    holds_lease(session, node, "FOR UPDATE").await
}

/// Returns whether a node holds its lease. Until the transaction ends, no other one removes the node.
pub(super) async fn hold_node<R>(session: &mut Session, node: NodeId) -> Result<bool, Failure<R>> {
    holds_lease(session, node, "{keep}").await
}

async fn holds_lease<R>(session: &mut Session, node: NodeId, lock: &str) -> Result<bool, Failure<R>> {
    let text = format!("SELECT lease_until, {{now}} FROM im_nodes WHERE node = ? {lock}");
    let Some(row) = session.row(Statement::new(text).number(node.0)).await? else { return Ok(false) };
    Ok(row.number(0)? > row.number(1)?)
}

/// Returns the nodes whose leases have expired.
pub(super) async fn expired_nodes<R>(session: &mut Session) -> Result<Vec<NodeId>, Failure<R>> {
    let rows = session.rows(Statement::new("SELECT node FROM im_nodes WHERE lease_until <= {now}")).await?;
    let nodes: Result<_, sqlx::Error> = rows.iter().map(|row| Ok(NodeId(row.number(0)?))).collect();
    Ok(nodes?)
}

/// Removes a locked node with its sessions.
pub(super) async fn remove_node<R>(session: &mut Session, node: NodeId) -> Result<(), Failure<R>> {
    for table in ["im_sessions", "im_replaced", "im_nodes"] {
        session.execute(Statement::new(format!("DELETE FROM {table} WHERE node = ?")).number(node.0)).await?;
    }
    Ok(())
}

/// Returns the incarnation of the directory, which the first call generates.
pub(super) async fn incarnation<R>(session: &mut Session) -> Result<u64, Failure<R>> {
    let select = || Statement::new("SELECT incarnation FROM im_directory WHERE id = 1");
    if let Some(row) = session.row(select()).await? {
        return Ok(row.number(0)?);
    }
    let insert = Statement::new("INSERT INTO im_directory (id, incarnation) VALUES (1, ?)").number(rand::random());
    session.execute(insert.or_update(session.engine(), "id", "id")).await?;
    Ok(session.row(select()).await?.ok_or(sqlx::Error::RowNotFound)?.number(0)?)
}

/// Returns the sessions of users.
pub(super) async fn sessions<R>(session: &mut Session, users: &[&str]) -> Result<Sessions, Failure<R>> {
    let mut sessions = Sessions::default();
    let mut users = users.to_vec();
    users.sort_unstable();
    users.dedup();
    for users in padded(&users) {
        let mut select = Statement::new(format!(
            "SELECT s.user_name, s.device, s.platform, s.node, s.session, COALESCE(n.lease_until, 0), {{now}} \
             FROM im_sessions s LEFT JOIN im_nodes n ON n.node = s.node WHERE s.user_name IN ({}) \
             ORDER BY s.user_name, s.device",
            placeholders(users.len(), "?", ", ")
        ));
        for user in users {
            select = select.text(user);
        }
        for row in session.rows(select).await? {
            let entry = SessionEntry {
                user: row.text(0)?,
                device: row.text(1)?,
                platform: row.text(2)?,
                node: NodeId(row.number(3)?),
                session: SessionId(row.number(4)?),
            };
            if row.number(5)? > row.number(6)? {
                sessions.valid.entry(entry.user.clone()).or_default().push(entry);
            } else {
                sessions.expired.push(entry);
            }
        }
    }
    Ok(sessions)
}

/// Inserts sessions of locked users.
pub(super) async fn insert<R>(session: &mut Session, entries: &[SessionEntry]) -> Result<(), Failure<R>> {
    for batch in batches(entries, MAX_BATCH) {
        let list = placeholders(batch.len(), "(?, ?, ?, ?, ?)", ", ");
        let text = format!("INSERT INTO im_sessions (user_name, device, platform, node, session) VALUES {list}");
        let mut insert = Statement::new(text);
        for SessionEntry { user, device, platform, node, session } in batch {
            insert = insert.text(user).text(device).text(platform).number(node.0).number(session.0);
        }
        session.execute(insert).await?;
    }
    Ok(())
}

/// Deletes exactly these sessions of locked users.
pub(super) async fn delete<R>(session: &mut Session, entries: &[SessionEntry]) -> Result<(), Failure<R>> {
    for entries in padded(entries) {
        let keys = "(user_name = ? AND device = ? AND node = ? AND session = ?)";
        let list = placeholders(entries.len(), keys, " OR ");
        let mut delete = Statement::new(format!("DELETE FROM im_sessions WHERE {list}"));
        for SessionEntry { user, device, node, session, .. } in entries {
            delete = delete.text(user).text(device).number(node.0).number(session.0);
        }
        session.execute(delete).await?;
    }
    Ok(())
}

/// Reports replaced sessions to their nodes.
pub(super) async fn report_replaced<R>(session: &mut Session, entries: &[SessionEntry]) -> Result<(), Failure<R>> {
    for batch in batches(entries, MAX_BATCH) {
        let list = placeholders(batch.len(), "(?, ?)", ", ");
        let mut insert = Statement::new(format!("INSERT INTO im_replaced (node, session) VALUES {list}"));
        for entry in batch {
            insert = insert.number(entry.node.0).number(entry.session.0);
        }
        session.execute(insert.or_update(session.engine(), "node, session", "session")).await?;
    }
    Ok(())
}

/// Ends the report of replaced sessions.
pub(super) async fn remove_replaced<R>(session: &mut Session, entries: &[SessionEntry]) -> Result<(), Failure<R>> {
    for entries in padded(entries) {
        let list = placeholders(entries.len(), "(node = ? AND session = ?)", " OR ");
        let mut delete = Statement::new(format!("DELETE FROM im_replaced WHERE {list}"));
        for entry in entries {
            delete = delete.number(entry.node.0).number(entry.session.0);
        }
        session.execute(delete).await?;
    }
    Ok(())
}
