//! Rows of the tables of conversations, members and messages.

use std::collections::BTreeMap;

use sqlx::any::AnyRow;

use super::outcome::Outcome;
use crate::{
    sql::{Columns as _, MAX_BATCH, Session, Statement, batches, padded, placeholders},
    store::{Audience, MAX_LISTED_MEMBERS, Member, Message, Role},
};

/// A row of `im_conversations`.
#[derive(Debug, Clone)]
pub(super) struct Conversation {
    pub(super) id: String,
    pub(super) incarnation: u64,
    pub(super) is_group: bool,
    pub(super) open: bool,
    pub(super) name: String,
    pub(super) first: u64,
    pub(super) last: u64,
    /// The time of the last message, in milliseconds since 1970.
    pub(super) last_time: u64,
    /// See [`Audience::version`].
    pub(super) version: u64,
    /// The number of members.
    pub(super) count: u64,
}

impl Conversation {
    /// Creates the first state of a conversation.
    pub(super) fn new(id: &str, name: &str, is_group: bool, open: bool, count: usize) -> Self {
        Self {
            id: id.to_owned(),
            incarnation: rand::random(),
            is_group,
            open,
            name: name.to_owned(),
            first: 1,
            last: 0,
            last_time: 0,
            version: 1,
            count: count as u64,
        }
    }

    /// Reads the [`COLUMNS`](Self::COLUMNS) of a row.
    pub(super) fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.text(0)?,
            incarnation: row.number(1)?,
            is_group: row.number(2)? != 0,
            open: row.number(3)? != 0,
            name: row.text(4)?,
            first: row.number(5)?,
            last: row.number(6)?,
            last_time: row.number(7)?,
            version: row.number(8)?,
            count: row.number(9)?,
        })
    }

    /// Returns whether the audience lists the members.
    pub(super) fn lists_members(&self) -> bool {
        self.count <= MAX_LISTED_MEMBERS as u64
    }

    /// Returns the audience with these members, in any order.
    pub(super) fn audience(&self, mut members: Vec<String>) -> Audience {
        members.sort_unstable();
        Audience { version: self.version, count: self.count, members }
    }

    /// The columns of a conversation in the table `c`.
    pub(super) const COLUMNS: &str = "c.id, c.incarnation, c.is_group, c.is_open, c.name, c.first_seq, c.last_seq, \
        c.last_time, c.members_version, c.member_count";
}

/// Locks a conversation until the transaction ends; returns it with the present time.
pub(super) async fn lock(session: &mut Session, id: &str) -> Outcome<Option<(Conversation, u64)>> {
    let columns = Conversation::COLUMNS;
    let text = format!("SELECT {columns}, {{now}} FROM im_conversations c WHERE c.id = ? FOR UPDATE");
    let Some(row) = session.row(Statement::new(text).text(id)).await? else { return Ok(None) };
    let conversation = Conversation::from_row(&row)?;
    // The clock of the server may have been set back.
    let now = row.number(10)?.max(conversation.last_time);
    Ok(Some((conversation, now)))
}

/// Inserts a conversation with its members unless it exists, and locks it; returns it, and whether it was inserted.
pub(super) async fn create(
    session: &mut Session,
    conversation: &Conversation,
    members: &[(&str, Role)],
) -> Outcome<(Conversation, u64, bool)> {
    let insert = Statement::new(
        "INSERT INTO im_conversations (id, incarnation, is_group, is_open, name, first_seq, last_seq, last_time, \
         members_version, member_count, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {now})",
    )
    .text(&conversation.id)
    .number(conversation.incarnation)
    .small(conversation.is_group.into())
    .small(conversation.open.into())
    .text(&conversation.name)
    .number(conversation.first)
    .number(conversation.last)
    .number(conversation.last_time)
    .number(conversation.version)
    .number(conversation.count)
    .or_update(session.engine(), "id", "id");
    session.execute(insert).await?;
    let (stored, now) = lock(session, &conversation.id).await?.ok_or(sqlx::Error::RowNotFound)?;
    let is_new = stored.incarnation == conversation.incarnation;
    if is_new {
        insert_members(session, conversation, members).await?;
    }
    Ok((stored, now, is_new))
}

/// Writes the columns of a locked conversation that change.
pub(super) async fn update(session: &mut Session, conversation: &Conversation) -> Outcome<()> {
    let update = Statement::new(
        "UPDATE im_conversations SET first_seq = ?, last_seq = ?, last_time = ?, members_version = ?, \
         member_count = ? WHERE id = ?",
    )
    .number(conversation.first)
    .number(conversation.last)
    .number(conversation.last_time)
    .number(conversation.version)
    .number(conversation.count)
    .text(&conversation.id);
    session.execute(update).await?;
    Ok(())
}

/// Inserts members, who are not members yet. Earlier messages count as read.
pub(super) async fn insert_members(
    session: &mut Session,
    conversation: &Conversation,
    members: &[(&str, Role)],
) -> Outcome<()> {
    for batch in batches(members, MEMBERS_BATCH) {
        let mut insert = Statement::new(format!(
            "INSERT INTO im_members (conversation, user_name, role, delivered_seq, read_seq) VALUES {}",
            placeholders(batch.len(), "(?, ?, ?, ?, ?)", ", ")
        ));
        for (user, role) in batch {
            let last = conversation.last;
            let member = insert.text(&conversation.id).text(user).small(role_number(*role));
            insert = member.number(last).number(last);
        }
        session.execute(insert).await?;
    }
    Ok(())
}

/// Returns the roles of those of the users who are members.
pub(super) async fn roles(
    session: &mut Session,
    conversation: &str,
    users: &[&str],
) -> Outcome<BTreeMap<String, Role>> {
    let mut roles = BTreeMap::new();
    for users in padded(users) {
        let mut select = Statement::new(format!(
            "SELECT user_name, role FROM im_members WHERE conversation = ? AND user_name IN ({})",
            placeholders(users.len(), "?", ", ")
        ))
        .text(conversation);
        for user in users {
            select = select.text(user);
        }
        for row in session.rows(select).await? {
            roles.insert(row.text(0)?, role(row.number(1)?)?);
        }
    }
    Ok(roles)
}

/// Returns the audience of a conversation.
pub(super) async fn audience(session: &mut Session, conversation: &Conversation) -> Outcome<Audience> {
    let mut members = Vec::new();
    if conversation.lists_members() {
        let select = "SELECT user_name FROM im_members WHERE conversation = ?";
        for row in session.rows(Statement::new(select).text(&conversation.id)).await? {
            members.push(row.text(0)?);
        }
    }
    Ok(conversation.audience(members))
}

/// Inserts messages.
pub(super) async fn insert_messages(session: &mut Session, conversation: &str, messages: &[Message]) -> Outcome<()> {
    for batch in batches(messages, MAX_BATCH) {
        let mut insert = Statement::new(format!(
            "INSERT INTO im_messages (conversation, seq, sender, device, client_id, kind, target, stored_at, changed, \
             body) VALUES {}",
            placeholders(batch.len(), "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", ", ")
        ));
        for message in batch {
            insert = insert
                .text(conversation)
                .number(message.seq)
                .text(&message.from)
                .text(&message.device)
                .text(&message.id)
                .small(message.kind as i16)
                .number(message.target)
                .number(message.time)
                .small(message.changed.into())
                .body(&message.body);
        }
        session.execute(insert).await?;
    }
    Ok(())
}

/// Reads the [`MESSAGE_COLUMNS`] of a row.
pub(super) fn message(row: &AnyRow) -> Result<Message, sqlx::Error> {
    Ok(Message {
        seq: row.number(0)?,
        from: row.text(1)?,
        device: row.text(2)?,
        id: row.text(3)?,
        kind: row.number(4)? as i32,
        target: row.number(5)?,
        time: row.number(6)?,
        changed: row.number(7)? != 0,
        body: row.body(8)?,
    })
}

/// Reads user name, role and cursors from the four columns of a row that begin at this index.
pub(super) fn member(row: &AnyRow, index: usize) -> Result<Member, sqlx::Error> {
    Ok(Member {
        user: row.text(index)?,
        role: role(row.number(index + 1)?)?,
        delivered: row.number(index + 2)?,
        read: row.number(index + 3)?,
    })
}

/// Returns the role with this number.
pub(super) fn role(number: u64) -> Result<Role, sqlx::Error> {
    [Role::Member, Role::Admin, Role::Owner]
        .into_iter()
        .find(|role| role_number(*role) as u64 == number)
        .ok_or_else(|| sqlx::Error::Decode(format!("no role has the number {number}").into()))
}

/// Returns the number of a role in the database; a higher role has a greater number.
pub(super) fn role_number(role: Role) -> i16 {
    match role {
        Role::Member => 0,
        Role::Admin => 1,
        Role::Owner => 2,
    }
}

/// The columns of a message.
pub(super) const MESSAGE_COLUMNS: &str = "seq, sender, device, client_id, kind, target, stored_at, changed, body";
/// The maximum number of members that one statement inserts: a large group is created in little time.
const MEMBERS_BATCH: usize = 1024;
