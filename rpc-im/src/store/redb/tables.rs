//! The tables of the store and their rows.

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::{
    super::{
        Audience, ConversationInfo, MAX_LISTED_MEMBERS, MAX_UNREAD, Member, Message, MessageKind, Role, StoreError,
    },
    error::failed,
};

/// A conversation without its messages and members.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct ConversationRow {
    #[prost(fixed64, tag = "1")]
    pub(super) incarnation: u64,
    #[prost(bool, tag = "2")]
    pub(super) is_group: bool,
    #[prost(bool, tag = "3")]
    pub(super) open: bool,
    #[prost(string, tag = "4")]
    pub(super) name: String,
    /// The sequence number of the first message that was not removed.
    #[prost(uint64, tag = "5")]
    pub(super) first: u64,
    #[prost(uint64, tag = "6")]
    pub(super) last: u64,
    /// Grows with each change of the members.
    #[prost(uint64, tag = "7")]
    pub(super) version: u64,
    #[prost(uint64, tag = "8")]
    pub(super) members: u64,
}

/// A member of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct MemberRow {
    /// 0 for a member, 1 for an admin, 2 for the owner.
    #[prost(uint32, tag = "1")]
    pub(super) role: u32,
    #[prost(uint64, tag = "2")]
    pub(super) delivered: u64,
    #[prost(uint64, tag = "3")]
    pub(super) read: u64,
}

/// The tables in a write transaction.
pub(super) struct Tables<'t> {
    pub(super) conversations: redb::Table<'t, &'static str, &'static [u8]>,
    pub(super) members: redb::Table<'t, Pair, &'static [u8]>,
    pub(super) of_user: redb::Table<'t, Pair, ()>,
    pub(super) messages: redb::Table<'t, Position, &'static [u8]>,
    pub(super) sent: redb::Table<'t, SentKey, u64>,
}

/// Two names.
pub(super) type Pair = (&'static str, &'static str);
/// A conversation and a sequence number.
pub(super) type Position = (&'static str, u64);
/// A conversation, a sender, the sender's device and its id of the message.
pub(super) type SentKey = (&'static str, &'static str, &'static str, &'static str);

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            conversations: transaction.open_table(CONVERSATIONS).map_err(failed)?,
            members: transaction.open_table(MEMBERS).map_err(failed)?,
            of_user: transaction.open_table(OF_USER).map_err(failed)?,
            messages: transaction.open_table(MESSAGES).map_err(failed)?,
            sent: transaction.open_table(SENT).map_err(failed)?,
        })
    }
}

impl MemberRow {
    pub(super) fn new(role: Role) -> Self {
        Self { role: role as u32, delivered: 0, read: 0 }
    }

    pub(super) fn role(&self) -> Role {
        [Role::Member, Role::Admin, Role::Owner]
            .into_iter()
            .rfind(|role| *role as u32 <= self.role)
            .unwrap_or(Role::Member)
    }

    pub(super) fn member(self, user: &str) -> Member {
        Member { user: user.to_owned(), role: self.role(), delivered: self.delivered, read: self.read }
    }
}

pub(super) fn conversation(
    conversations: &impl ReadableTable<&'static str, &'static [u8]>,
    id: &str,
) -> Result<Option<ConversationRow>, StoreError> {
    conversations.get(id).map_err(failed)?.map(|row| decode(row.value())).transpose()
}

pub(super) fn member(
    members: &impl ReadableTable<Pair, &'static [u8]>,
    conversation: &str,
    user: &str,
) -> Result<Option<MemberRow>, StoreError> {
    members.get((conversation, user)).map_err(failed)?.map(|row| decode(row.value())).transpose()
}

/// Returns up to `limit` members of a conversation after the user `after`.
pub(super) fn members_after(
    members: &impl ReadableTable<Pair, &'static [u8]>,
    conversation: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<Member>, StoreError> {
    let mut found = Vec::new();
    for row in members.range((conversation, after)..).map_err(failed)? {
        let (key, value) = row.map_err(failed)?;
        let (of, user) = key.value();
        if of != conversation || found.len() >= limit {
            break;
        }
        if user > after {
            found.push(decode::<MemberRow>(value.value())?.member(user));
        }
    }
    Ok(found)
}

pub(super) fn audience(
    members: &impl ReadableTable<Pair, &'static [u8]>,
    id: &str,
    row: &ConversationRow,
) -> Result<Audience, StoreError> {
    let is_listed = row.members <= MAX_LISTED_MEMBERS as u64;
    let members = if is_listed { members_after(members, id, "", MAX_LISTED_MEMBERS)? } else { Vec::new() };
    let members = members.into_iter().map(|member| member.user).collect();
    Ok(Audience { version: row.version, count: row.members, members })
}

/// Returns the state of a conversation for one of its members.
pub(super) fn info(
    members: &impl ReadableTable<Pair, &'static [u8]>,
    messages: &impl ReadableTable<Position, &'static [u8]>,
    (id, row): (&str, ConversationRow),
    member: Member,
) -> Result<ConversationInfo, StoreError> {
    let audience = audience(members, id, &row)?;
    let mut unread = 0;
    for message in messages.range((id, member.read.max(row.first - 1) + 1)..=(id, row.last)).map_err(failed)? {
        if unread == MAX_UNREAD {
            break;
        }
        let message: Message = decode(message.map_err(failed)?.1.value())?;
        unread += u32::from(message.kind() == MessageKind::Text && message.from != member.user);
    }
    let ConversationRow { incarnation, is_group, open, name, first, last, .. } = row;
    Ok(ConversationInfo {
        conversation: id.to_owned(),
        incarnation,
        is_group,
        open,
        name,
        first,
        last,
        audience,
        member,
        unread,
    })
}

pub(super) fn decode<T: prost::Message + Default>(bytes: &[u8]) -> Result<T, StoreError> {
    T::decode(bytes).map_err(|error| failed(format!("cannot decode an entry: {error}")))
}

/// Id → [`ConversationRow`].
pub(super) const CONVERSATIONS: TableDefinition<&str, &[u8]> = TableDefinition::new("im_conversations");
/// Conversation and user → [`MemberRow`].
pub(super) const MEMBERS: TableDefinition<Pair, &[u8]> = TableDefinition::new("im_members");
/// The set of pairs of user and conversation.
pub(super) const OF_USER: TableDefinition<Pair, ()> = TableDefinition::new("im_of_user");
/// Conversation and sequence number → [`Message`].
pub(super) const MESSAGES: TableDefinition<Position, &[u8]> = TableDefinition::new("im_messages");
/// Conversation, sender, device and the device's id of the message → sequence number.
pub(super) const SENT: TableDefinition<SentKey, u64> = TableDefinition::new("im_sent");
