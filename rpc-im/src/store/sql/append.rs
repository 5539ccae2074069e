//! Appending messages to a conversation.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    batch::{Batch, Key},
    outcome::Outcome,
    rows::{self, Conversation},
};
use crate::{
    sql::{Columns as _, Session, Statement, padded, placeholders},
    store::{
        Append, Appended, ConversationRef, Message, MessageKind, NewMessage, Role, StoreError, Stored,
        rules::rejected_beginning,
    },
};

/// Appends messages, see [`MessageStore::append`](crate::store::MessageStore::append).
pub(super) async fn append(session: &mut Session, append: &Append) -> Outcome<Appended> {
    let Append { to, messages } = append;
    if !to.is_valid() {
        return Err(StoreError::NotFound.into());
    }
    let (mut conversation, time) = match rows::lock(session, &to.conversation).await? {
        Some(locked) => locked,
        None => match begin(session, to, messages).await? {
            Ok(locked) => locked,
            Err(rejected) => return Ok(rejected),
        },
    };
    let context = Context::read(session, &conversation, messages).await?;
    let targets = targets(session, &conversation, messages).await?;
    let mut batch = Batch::new(&conversation, time, context.roles, context.stored, targets);
    let outcomes = messages.iter().map(|message| batch.add(message)).collect();
    let (appended, edited) = batch.into_parts();
    if let Some(last) = appended.last() {
        rows::insert_messages(session, &conversation.id, &appended).await?;
        for target in &edited {
            update_body(session, &conversation.id, target).await?;
        }
        conversation.last = last.seq;
        conversation.last_time = time;
        rows::update(session, &conversation).await?;
    }
    let audience = conversation.audience(context.members);
    Ok(Appended { incarnation: conversation.incarnation, audience, messages: outcomes })
}

/// Creates the conversation of two users, and locks it. Another node may create it at the same time.
///
/// If no message can be stored, nothing is created, and the inner error has the outcomes.
async fn begin(
    session: &mut Session,
    to: &ConversationRef,
    messages: &[NewMessage],
) -> Outcome<Result<(Conversation, u64), Appended>> {
    let pair = to.pair.as_ref().ok_or(StoreError::NotFound)?;
    if let Some(rejected) = rejected_beginning(pair, messages) {
        return Ok(Err(rejected));
    }
    let users: BTreeSet<&str> = pair.iter().map(String::as_str).collect();
    let members: Vec<_> = users.into_iter().map(|user| (user, Role::Member)).collect();
    let conversation = Conversation::new(&to.conversation, "", false, false, members.len());
    let (conversation, time, _) = rows::create(session, &conversation, &members).await?;
    Ok(Ok((conversation, time)))
}

/// The rows that decide on messages.
#[derive(Default)]
struct Context {
    /// The roles of members, at least of those who send a message.
    roles: BTreeMap<String, Role>,
    /// All members if the audience lists them.
    members: Vec<String>,
    /// The messages that are stored already.
    stored: HashMap<Key, Stored>,
}

impl Context {
    /// Reads the rows in one round trip, or a few for many messages.
    async fn read(session: &mut Session, conversation: &Conversation, messages: &[NewMessage]) -> Outcome<Self> {
        let mut context = Self::default();
        if messages.is_empty() {
            context.members = rows::audience(session, conversation).await?.members;
        }
        for (index, messages) in padded(messages).enumerate() {
            let mut select = Statement::new("");
            if index == 0 || !conversation.lists_members() {
                select = select
                    .push("SELECT 0, m.user_name, '', '', m.role, 0, 0 FROM im_members m WHERE m.conversation = ?")
                    .text(&conversation.id);
                if !conversation.lists_members() {
                    let list = placeholders(messages.len(), "?", ", ");
                    select = select.push(&format!(" AND m.user_name IN ({list})"));
                    for message in &messages {
                        select = select.text(&message.from);
                    }
                }
                select = select.push(" UNION ALL ");
            }
            let keys = placeholders(messages.len(), "d.sender = ? AND d.device = ? AND d.client_id = ?", " OR ");
            select = select
                .push("SELECT 1, d.sender, d.device, d.client_id, d.kind, d.seq, d.stored_at FROM im_messages d ")
                .push(&format!("WHERE d.conversation = ? AND ({keys})"))
                .text(&conversation.id);
            for message in messages {
                select = select.text(&message.from).text(&message.device).text(&message.id);
            }
            for row in session.rows(select).await? {
                let name = row.text(1)?;
                if row.number(0)? == 0 {
                    if conversation.lists_members() {
                        context.members.push(name.clone());
                    }
                    context.roles.insert(name, rows::role(row.number(4)?)?);
                } else {
                    let key = Key { from: name, device: row.text(2)?, id: row.text(3)? };
                    let stored = Stored { seq: row.number(5)?, time: row.number(6)?, repeated: true };
                    context.stored.insert(key, stored);
                }
            }
        }
        Ok(context)
    }
}

/// Returns the stored messages that the messages edit or recall.
async fn targets(
    session: &mut Session,
    conversation: &Conversation,
    messages: &[NewMessage],
) -> Outcome<BTreeMap<u64, Message>> {
    let range = conversation.first..=conversation.last;
    let is_target = |message: &&NewMessage| message.kind != MessageKind::Text && range.contains(&message.target);
    let wanted: BTreeSet<u64> = messages.iter().filter(is_target).map(|message| message.target).collect();
    let wanted: Vec<u64> = wanted.into_iter().collect();
    let mut targets = BTreeMap::new();
    for seqs in padded(&wanted) {
        let columns = rows::MESSAGE_COLUMNS;
        let list = placeholders(seqs.len(), "?", ", ");
        let text = format!("SELECT {columns} FROM im_messages WHERE conversation = ? AND seq IN ({list})");
        let mut select = Statement::new(text).text(&conversation.id);
        for seq in seqs {
            select = select.number(*seq);
        }
        for row in session.rows(select).await? {
            let message = rows::message(&row)?;
            targets.insert(message.seq, message);
        }
    }
    Ok(targets)
}

async fn update_body(session: &mut Session, conversation: &str, message: &Message) -> Outcome<()> {
    let update = Statement::new("UPDATE im_messages SET body = ?, changed = 1 WHERE conversation = ? AND seq = ?")
        .body(&message.body)
        .text(conversation)
        .number(message.seq);
    session.execute(update).await?;
    Ok(())
}

/// Returns the outcome of the message with this key, if it is stored.
pub(super) async fn stored(session: &mut Session, conversation: &str, key: &Key) -> Outcome<Option<Stored>> {
    let select = Statement::new(
        "SELECT seq, stored_at FROM im_messages WHERE conversation = ? AND sender = ? AND device = ? AND client_id = ?",
    )
    .text(conversation)
    .text(&key.from)
    .text(&key.device)
    .text(&key.id);
    let Some(row) = session.row(select).await? else { return Ok(None) };
    Ok(Some(Stored { seq: row.number(0)?, time: row.number(1)?, repeated: true }))
}
