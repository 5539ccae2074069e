//! Reading messages, conversations and members.

use std::collections::{BTreeSet, HashMap};

use super::{
    outcome::Outcome,
    rows::{self, Conversation},
};
use crate::{
    sql::{Columns as _, Session, Statement, batches, padded, placeholders},
    store::{
        ConversationInfo, MAX_UNREAD, Member, MemberPage, Message, MessageKind, MessagePage, PageRequest, Range,
        StoreError,
    },
};

/// Returns a page of messages, see [`MessageStore::read`](crate::store::MessageStore::read).
pub(super) async fn messages(
    session: &mut Session,
    conversation: &str,
    user: &str,
    page: PageRequest,
) -> Outcome<MessagePage> {
    let (conversation, _) = membership(session, conversation, user).await?.ok_or(StoreError::NotFound)?;
    let mut messages: Vec<Message> = Vec::new();
    let mut bytes = 0;
    let mut range = page.range;
    let max_messages = page.max_messages.max(1);
    'page: while messages.len() < max_messages {
        // Large pages are read in parts, because the number of bytes may end the page early.
        let limit = (max_messages - messages.len()).min(READ_BATCH);
        let rows = session.rows(select_messages(&conversation.id, range, limit)).await?;
        let is_last = rows.len() < limit;
        for row in rows {
            let message = rows::message(&row)?;
            bytes += message.body.len();
            if bytes > page.max_bytes && !messages.is_empty() {
                break 'page;
            }
            range = match range {
                Range::After(_) => Range::After(message.seq),
                Range::Before(_) => Range::Before(message.seq),
            };
            messages.push(message);
        }
        if is_last {
            break;
        }
    }
    if let Range::Before(_) = range {
        messages.reverse();
    }
    add_bodies_of_edits(session, &conversation.id, &mut messages).await?;
    let Conversation { incarnation, first, last, .. } = conversation;
    Ok(MessagePage { incarnation, first, last, messages })
}

/// Adds to each edit the present body of its target.
async fn add_bodies_of_edits(session: &mut Session, conversation: &str, messages: &mut [Message]) -> Outcome<()> {
    let is_edit = |message: &Message| message.kind() == MessageKind::Edit;
    let targets: BTreeSet<u64> = messages.iter().filter(|message| is_edit(message)).map(|edit| edit.target).collect();
    let targets: Vec<u64> = targets.into_iter().collect();
    let mut bodies = HashMap::new();
    for seqs in padded(&targets) {
        let (columns, list) = (rows::MESSAGE_COLUMNS, placeholders(seqs.len(), "?", ", "));
        let text = format!("SELECT {columns} FROM im_messages WHERE conversation = ? AND seq IN ({list})");
        let mut select = Statement::new(text).text(conversation);
        for seq in seqs {
            select = select.number(*seq);
        }
        for row in session.rows(select).await? {
            let target = rows::message(&row)?;
            bodies.insert(target.seq, target.body);
        }
    }
    for edit in messages.iter_mut().filter(|message| is_edit(message)) {
        edit.body = bodies.get(&edit.target).cloned().unwrap_or_default();
    }
    Ok(())
}

/// Returns the state of a conversation for one of its members.
pub(super) async fn conversation(session: &mut Session, conversation: &str, user: &str) -> Outcome<ConversationInfo> {
    let found = membership(session, conversation, user).await?.ok_or(StoreError::NotFound)?;
    let info = infos(session, vec![found]).await?.pop();
    Ok(info.ok_or(StoreError::NotFound)?)
}

/// Returns a page of the conversations of a user.
pub(super) async fn conversations(
    session: &mut Session,
    user: &str,
    after: &str,
    limit: usize,
) -> Outcome<Vec<ConversationInfo>> {
    let columns = Conversation::COLUMNS;
    let select = Statement::new(format!(
        "SELECT {columns}, {MEMBER_COLUMNS} FROM im_members m JOIN im_conversations c ON c.id = m.conversation \
         WHERE m.user_name = ? AND m.conversation > ? ORDER BY m.conversation LIMIT ?"
    ));
    let rows = session.rows(select.text(user).text(after).position(limit as u64)).await?;
    let found: Result<_, sqlx::Error> =
        rows.iter().map(|row| Ok((Conversation::from_row(row)?, rows::member(row, 10)?))).collect();
    infos(session, found?).await
}

/// Returns a page of the members of a conversation.
pub(super) async fn members(
    session: &mut Session,
    conversation: &str,
    after: &str,
    limit: usize,
) -> Outcome<MemberPage> {
    let select = Statement::new("SELECT members_version FROM im_conversations WHERE id = ?").text(conversation);
    let Some(row) = session.row(select).await? else { return Ok(MemberPage { version: 0, members: vec![] }) };
    let version = row.number(0)?;
    let select = Statement::new(format!(
        "SELECT {MEMBER_COLUMNS} FROM im_members m WHERE m.conversation = ? AND m.user_name > ? \
         ORDER BY m.user_name LIMIT ?"
    ));
    let rows = session.rows(select.text(conversation).text(after).position(limit as u64)).await?;
    let members: Result<_, sqlx::Error> = rows.iter().map(|row| rows::member(row, 0)).collect();
    Ok(MemberPage { version, members: members? })
}

fn select_messages(conversation: &str, range: Range, limit: usize) -> Statement {
    let columns = rows::MESSAGE_COLUMNS;
    let (bound, order, seq) = match range {
        Range::After(seq) => (">", "ASC", seq),
        Range::Before(seq) => ("<", "DESC", seq),
    };
    Statement::new(format!(
        "SELECT {columns} FROM im_messages WHERE conversation = ? AND seq {bound} ? ORDER BY seq {order} LIMIT ?"
    ))
    .text(conversation)
    .position(seq)
    .position(limit as u64)
}

async fn membership(session: &mut Session, conversation: &str, user: &str) -> Outcome<Option<(Conversation, Member)>> {
    let columns = Conversation::COLUMNS;
    let select = Statement::new(format!(
        "SELECT {columns}, {MEMBER_COLUMNS} FROM im_conversations c JOIN im_members m ON m.conversation = c.id \
         WHERE c.id = ? AND m.user_name = ?"
    ));
    let Some(row) = session.row(select.text(conversation).text(user)).await? else { return Ok(None) };
    Ok(Some((Conversation::from_row(&row)?, rows::member(&row, 10)?)))
}

/// Adds the members and the unread counts to conversations.
async fn infos(session: &mut Session, found: Vec<(Conversation, Member)>) -> Outcome<Vec<ConversationInfo>> {
    let mut listed = listed_members(session, &found).await?;
    let unread = unread(session, &found).await?;
    let infos = found.into_iter().zip(unread).map(|((conversation, member), unread)| {
        let audience = conversation.audience(listed.remove(&conversation.id).unwrap_or_default());
        let Conversation { id, incarnation, is_group, open, name, first, last, .. } = conversation;
        ConversationInfo { conversation: id, incarnation, is_group, open, name, first, last, audience, member, unread }
    });
    Ok(infos.collect())
}

/// Returns the members of the conversations whose audiences list them.
async fn listed_members(
    session: &mut Session,
    found: &[(Conversation, Member)],
) -> Outcome<HashMap<String, Vec<String>>> {
    let small = found.iter().map(|(conversation, _)| conversation).filter(|small| small.lists_members());
    let small: Vec<&str> = small.map(|conversation| conversation.id.as_str()).collect();
    let mut listed: HashMap<String, Vec<String>> = HashMap::new();
    for ids in padded(&small) {
        let list = placeholders(ids.len(), "?", ", ");
        let text = format!("SELECT conversation, user_name FROM im_members WHERE conversation IN ({list})");
        let mut select = Statement::new(text);
        for id in ids {
            select = select.text(id);
        }
        for row in session.rows(select).await? {
            listed.entry(row.text(0)?).or_default().push(row.text(1)?);
        }
    }
    Ok(listed)
}

/// Returns the unread count of each conversation. Each count reads a limited number of messages of others.
async fn unread(session: &mut Session, found: &[(Conversation, Member)]) -> Outcome<Vec<u32>> {
    let mut unread = vec![0; found.len()];
    let behind: Vec<_> = found.iter().enumerate().filter(|(_, (of, member))| member.read < of.last).collect();
    let text = MessageKind::Text as i32;
    for batch in batches(&behind, UNREAD_BATCH) {
        let counts = batch.iter().enumerate().map(|(position, _)| {
            format!(
                "SELECT {position}, COUNT(*) FROM (SELECT 1 AS one FROM im_messages WHERE conversation = ? AND seq > ? \
                 AND kind = {text} AND sender <> ? LIMIT {MAX_UNREAD}) counted{position}"
            )
        });
        let counts: Vec<_> = counts.collect();
        let mut select = Statement::new(counts.join(" UNION ALL "));
        for (_, (conversation, member)) in batch {
            select = select.text(&conversation.id).number(member.read).text(&member.user);
        }
        for row in session.rows(select).await? {
            if let Some((index, _)) = batch.get(row.number(0)? as usize) {
                unread[*index] = row.number(1)? as u32;
            }
        }
    }
    Ok(unread)
}

/// The columns of a member in the table `m`.
const MEMBER_COLUMNS: &str = "m.user_name, m.role, m.delivered_seq, m.read_seq";
/// The maximum number of messages that one statement reads.
const READ_BATCH: usize = 64;
/// The maximum number of unread counts in one statement.
const UNREAD_BATCH: usize = 16;
