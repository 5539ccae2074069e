//! The reads of the store, each in its own transaction.

use std::ops::Bound;

use redb::{ReadTransaction, ReadableTable as _};

use super::{
    super::{ConversationInfo, MemberPage, Message, MessageKind, MessagePage, PageRequest, Range, StoreError},
    error::failed,
    tables::{self, CONVERSATIONS, MEMBERS, MESSAGES, OF_USER, decode},
};

pub(super) fn messages(
    transaction: &ReadTransaction,
    conversation: &str,
    user: &str,
    page: PageRequest,
) -> Result<MessagePage, StoreError> {
    let row = tables::conversation(&transaction.open_table(CONVERSATIONS).map_err(failed)?, conversation)?;
    let member = tables::member(&transaction.open_table(MEMBERS).map_err(failed)?, conversation, user)?;
    let (Some(row), Some(_)) = (row, member) else { return Err(StoreError::NotFound) };
    let all = transaction.open_table(MESSAGES).map_err(failed)?;
    let range = match page.range {
        Range::After(seq) => seq.saturating_add(1)..row.last + 1,
        Range::Before(seq) => row.first..seq.min(row.last + 1),
    };
    let mut messages = Vec::<Message>::new();
    if !range.is_empty() {
        let mut found = all.range((conversation, range.start)..(conversation, range.end)).map_err(failed)?;
        let mut bytes = 0;
        while let Some(entry) = if let Range::After(_) = page.range { found.next() } else { found.next_back() } {
            let message: Message = decode(entry.map_err(failed)?.1.value())?;
            bytes += message.body.len();
            let is_full = messages.len() >= page.max_messages || bytes > page.max_bytes;
            if is_full && !messages.is_empty() {
                break;
            }
            messages.push(message);
        }
    }
    if let Range::Before(_) = page.range {
        messages.reverse();
    }
    for edit in messages.iter_mut().filter(|message| message.kind() == MessageKind::Edit) {
        if let Some(target) = all.get((conversation, edit.target)).map_err(failed)? {
            edit.body = decode::<Message>(target.value())?.body;
        }
    }
    Ok(MessagePage { incarnation: row.incarnation, first: row.first, last: row.last, messages })
}

pub(super) fn conversation(
    transaction: &ReadTransaction,
    conversation: &str,
    user: &str,
) -> Result<ConversationInfo, StoreError> {
    let members = transaction.open_table(MEMBERS).map_err(failed)?;
    let row = tables::conversation(&transaction.open_table(CONVERSATIONS).map_err(failed)?, conversation)?;
    let (Some(row), Some(member)) = (row, tables::member(&members, conversation, user)?) else {
        return Err(StoreError::NotFound);
    };
    let messages = transaction.open_table(MESSAGES).map_err(failed)?;
    tables::info(&members, &messages, (conversation, row), member.member(user))
}

pub(super) fn conversations(
    transaction: &ReadTransaction,
    user: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<ConversationInfo>, StoreError> {
    let after = (Bound::Excluded((user, after)), Bound::Unbounded);
    let mut found = Vec::new();
    for entry in transaction.open_table(OF_USER).map_err(failed)?.range::<(&str, &str)>(after).map_err(failed)? {
        let (key, _) = entry.map_err(failed)?;
        let (of, id) = key.value();
        if of != user || found.len() >= limit {
            break;
        }
        found.push(conversation(transaction, id, user)?);
    }
    Ok(found)
}

pub(super) fn members(
    transaction: &ReadTransaction,
    conversation: &str,
    after: &str,
    limit: usize,
) -> Result<MemberPage, StoreError> {
    let row = tables::conversation(&transaction.open_table(CONVERSATIONS).map_err(failed)?, conversation)?;
    let members = transaction.open_table(MEMBERS).map_err(failed)?;
    let members = tables::members_after(&members, conversation, after, limit)?;
    Ok(MemberPage { version: row.map_or(0, |row| row.version), members })
}

/// Returns conversations with up to `limit` messages that were stored before `before`, and the last of these messages.
pub(super) fn expired(
    transaction: &ReadTransaction,
    before: u64,
    limit: usize,
) -> Result<Vec<(String, u64)>, StoreError> {
    let messages = transaction.open_table(MESSAGES).map_err(failed)?;
    let (mut expired, mut left) = (Vec::new(), limit as u64);
    for entry in transaction.open_table(CONVERSATIONS).map_err(failed)?.iter().map_err(failed)? {
        let (key, row) = entry.map_err(failed)?;
        let (id, row) = (key.value(), decode::<tables::ConversationRow>(row.value())?);
        let mut last = row.first - 1;
        for message in messages.range((id, row.first)..=(id, row.last)).map_err(failed)? {
            let message: Message = decode(message.map_err(failed)?.1.value())?;
            if message.time >= before || left == 0 {
                break;
            }
            (last, left) = (message.seq, left - 1);
        }
        if last >= row.first {
            expired.push((id.to_owned(), last));
        }
        if left == 0 {
            break;
        }
    }
    Ok(expired)
}
