//! Cursors, the removal of old messages, and new incarnations.

use std::collections::BTreeMap;

use super::{outcome::Outcome, rows};
use crate::{
    sql::{Columns as _, Session, Statement},
    store::Cursor,
};

/// Returns one cursor for each member, in an order in which concurrent transactions do not deadlock.
pub(super) fn merged(cursors: Vec<Cursor>) -> Vec<Cursor> {
    let mut merged: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for Cursor { conversation, user, delivered, read } in cursors {
        let entry = merged.entry((conversation, user)).or_default();
        *entry = (entry.0.max(delivered).max(read), entry.1.max(read));
    }
    let cursors = merged.into_iter().map(|((conversation, user), (delivered, read))| Cursor {
        conversation,
        user,
        delivered,
        read,
    });
    cursors.collect()
}

/// Advances merged cursors, see [`MessageStore::set_cursors`](crate::store::MessageStore::set_cursors).
pub(super) async fn set_cursors(session: &mut Session, cursors: &[Cursor]) -> Outcome<()> {
    for Cursor { conversation, user, delivered, read } in cursors {
        let advanced = |column: &str| {
            let last = "SELECT c.last_seq FROM im_conversations c WHERE c.id = ?";
            format!("{column} = GREATEST({column}, LEAST(?, ({last})))")
        };
        let update = Statement::new(format!(
            "UPDATE im_members SET {}, {} WHERE conversation = ? AND user_name = ? \
             AND (delivered_seq < ? OR read_seq < ?)",
            advanced("delivered_seq"),
            advanced("read_seq"),
        ))
        .position(*delivered)
        .text(conversation)
        .position(*read)
        .text(conversation)
        .text(conversation)
        .text(user)
        .position(*delivered)
        .position(*read);
        session.execute(update).await?;
    }
    Ok(())
}

/// Returns the conversations of the oldest messages, and the number of messages that each has among these.
pub(super) async fn expired(session: &mut Session, before: u64, limit: usize) -> Outcome<Vec<(String, usize)>> {
    let select = Statement::new(
        "SELECT old.conversation, COUNT(*) FROM (SELECT conversation FROM im_messages WHERE stored_at < ? \
         ORDER BY stored_at, conversation, seq LIMIT ?) old GROUP BY old.conversation",
    );
    let rows = session.rows(select.position(before).position(limit as u64)).await?;
    let expired: Result<_, sqlx::Error> = rows.iter().map(|row| Ok((row.text(0)?, row.number(1)? as usize))).collect();
    Ok(expired?)
}

/// Removes up to `limit` messages from the beginning of a conversation if all of them are old; returns their number.
pub(super) async fn remove(session: &mut Session, conversation: &str, before: u64, limit: usize) -> Outcome<usize> {
    let Some((mut conversation, _)) = rows::lock(session, conversation).await? else { return Ok(0) };
    let select = Statement::new(
        "SELECT seq, stored_at FROM im_messages WHERE conversation = ? AND seq >= ? ORDER BY seq LIMIT ?",
    )
    .text(&conversation.id)
    .number(conversation.first)
    .position(limit as u64);
    let mut next = conversation.first;
    for row in session.rows(select).await? {
        if row.number(1)? >= before {
            break;
        }
        next = row.number(0)? + 1;
    }
    if next == conversation.first {
        return Ok(0);
    }
    let delete = Statement::new("DELETE FROM im_messages WHERE conversation = ? AND seq >= ? AND seq < ?")
        .text(&conversation.id)
        .number(conversation.first)
        .number(next);
    let removed = session.execute(delete).await?;
    conversation.first = next;
    rows::update(session, &conversation).await?;
    Ok(removed as usize)
}

/// Gives some conversations after the id `after` new incarnations; returns their number and the last id.
pub(super) async fn renew_incarnations(session: &mut Session, after: &str) -> Outcome<Option<(u64, String)>> {
    let select = Statement::new("SELECT id FROM im_conversations WHERE id > ? ORDER BY id LIMIT ?");
    let rows = session.rows(select.text(after).number(RENEWAL_BATCH)).await?;
    let Some(last) = rows.last() else { return Ok(None) };
    let last = last.text(0)?;
    let update = Statement::new(format!(
        "UPDATE im_conversations SET incarnation = {} WHERE id > ? AND id <= ?",
        session.engine().exclusive_or("incarnation")
    ));
    // The same difference for all of them: each incarnation differs from its earlier values.
    let count = session.execute(update.number(rand::random()).text(after).text(&last)).await?;
    Ok(Some((count, last)))
}

/// The number of conversations that get a new incarnation in one transaction.
const RENEWAL_BATCH: u64 = 1000;
