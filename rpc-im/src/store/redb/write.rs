//! The writes of the store, inside a transaction of the writer.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use prost::Message as _;
use redb::ReadableTable as _;

use super::{
    super::{
        Append, Appended, Change, ConversationInfo, Cursor, MembersChange, Message, MessageKind, NewConversation,
        NewMessage, Rejection, Role, StoreError, Stored,
        rules::{Roles, check_change, check_count, check_edit, rejected_beginning},
    },
    error::WriteError,
    tables::{self, ConversationRow, MemberRow, Tables, audience, decode},
};

impl Tables<'_> {
    pub(super) fn append(&mut self, append: &Append) -> Result<Appended, WriteError> {
        let id = append.to.conversation.as_str();
        let mut row = match (tables::conversation(&self.conversations, id)?, &append.to.pair) {
            (Some(row), _) => row,
            (None, Some(pair)) if append.to.is_valid() => {
                if let Some(rejected) = rejected_beginning(pair, &append.messages) {
                    return Ok(rejected);
                }
                self.begin(id, ConversationRow::default(), pair.iter().map(|user| (user.as_str(), Role::Member)))?
            }
            (None, _) => return Err(WriteError::Rejected(StoreError::NotFound)),
        };
        let time = now();
        let mut messages = Vec::with_capacity(append.messages.len());
        for message in &append.messages {
            messages.push(self.append_one(id, &mut row, message, time)?);
        }
        self.put_conversation(id, &row)?;
        Ok(Appended { incarnation: row.incarnation, audience: audience(&self.members, id, &row)?, messages })
    }

    pub(super) fn create(&mut self, new: &NewConversation) -> Result<ConversationInfo, WriteError> {
        let id = new.conversation.as_str();
        if tables::conversation(&self.conversations, id)?.is_none() {
            let mut members: BTreeSet<_> = new.members.iter().map(String::as_str).collect();
            members.remove(new.creator.as_str());
            check_count(members.len() as u64 + 1).map_err(WriteError::Rejected)?;
            let row = ConversationRow { is_group: true, open: new.open, name: new.name.clone(), ..Default::default() };
            let members = members.into_iter().map(|member| (member, Role::Member));
            self.begin(id, row, members.chain([(new.creator.as_str(), Role::Owner)]))?;
        }
        let row = tables::conversation(&self.conversations, id)?.expect("the conversation exists or was just created");
        let member = tables::member(&self.members, id, &new.creator)?;
        let member = member.ok_or(WriteError::Rejected(StoreError::NotFound))?.member(&new.creator);
        Ok(tables::info(&self.members, &self.messages, (id, row), member)?)
    }

    pub(super) fn change_members(&mut self, request: &MembersChange) -> Result<Appended, WriteError> {
        let MembersChange { conversation, by, device, id, change } = request;
        let name = conversation.as_str();
        let row = tables::conversation(&self.conversations, name)?.filter(|row| row.is_group);
        let mut row = row.ok_or(WriteError::Rejected(StoreError::NotFound))?;
        let mut messages = Vec::new();
        if let Some(stored) = self.find(name, by, device, id)? {
            messages.push(Ok(stored));
        } else {
            let of = match change {
                Change::Remove(user) | Change::SetRole(user, _) => self.role(name, user)?,
                _ => None,
            };
            let roles = Roles { by: self.role(name, by)?, of, open: row.open };
            let has_effect = check_change(change, roles).map_err(WriteError::Rejected)?;
            if has_effect && self.apply(name, &mut row, by, change)? {
                let body = serde_json::to_string(change).expect("names always serialize");
                let (from, device, id) = (by.clone(), device.clone(), id.clone());
                let message = NewMessage { from, device, id, kind: MessageKind::Members, target: 0, body };
                messages.push(Ok(self.push(name, &mut row, &message, now())?));
                row.version += 1;
                self.put_conversation(name, &row)?;
            }
        }
        Ok(Appended { incarnation: row.incarnation, audience: audience(&self.members, name, &row)?, messages })
    }

    pub(super) fn set_cursor(&mut self, cursor: &Cursor) -> Result<(), WriteError> {
        let Cursor { conversation, user, delivered, read } = cursor;
        let row = tables::conversation(&self.conversations, conversation)?;
        let (Some(row), Some(member)) = (row, tables::member(&self.members, conversation, user)?) else {
            return Ok(());
        };
        let read = member.read.max((*read).min(row.last));
        let after = MemberRow { read, delivered: member.delivered.max((*delivered).min(row.last)).max(read), ..member };
        if after != member {
            self.put_member(conversation, user, after)?;
        }
        Ok(())
    }

    /// Removes the messages of a conversation up to this sequence number; returns their number.
    pub(super) fn remove_until(&mut self, id: &str, last: u64) -> Result<usize, WriteError> {
        let Some(mut row) = tables::conversation(&self.conversations, id)? else { return Ok(0) };
        let mut removed = 0;
        for entry in self.messages.extract_from_if((id, 0)..=(id, last.min(row.last)), |_, _| true)? {
            let message: Message = decode(entry?.1.value())?;
            self.sent.remove((id, message.from.as_str(), message.device.as_str(), message.id.as_str()))?;
            removed += 1;
        }
        row.first = row.first.max(last.min(row.last) + 1);
        self.put_conversation(id, &row)?;
        Ok(removed)
    }

    pub(super) fn renew_incarnations(&mut self) -> Result<u64, WriteError> {
        let ids = self.conversations.iter()?.map(|entry| Ok(entry?.0.value().to_owned()));
        let ids = ids.collect::<Result<Vec<_>, redb::StorageError>>()?;
        for id in &ids {
            if let Some(row) = tables::conversation(&self.conversations, id)? {
                self.put_conversation(id, &ConversationRow { incarnation: rand::random(), ..row })?;
            }
        }
        Ok(ids.len() as u64)
    }

    /// Stores one message, unless it is stored already or rejected.
    fn append_one(
        &mut self,
        id: &str,
        row: &mut ConversationRow,
        message: &NewMessage,
        time: u64,
    ) -> Result<Result<Stored, Rejection>, WriteError> {
        if let Some(stored) = self.find(id, &message.from, &message.device, &message.id)? {
            return Ok(Ok(stored));
        }
        let Some(role) = self.role(id, &message.from)? else { return Ok(Err(Rejection::NotMember)) };
        match message.kind {
            MessageKind::Text => {}
            MessageKind::Members => return Ok(Err(Rejection::NotPermitted)),
            kind => {
                let target = self.messages.get((id, message.target))?.map(|row| decode::<Message>(row.value()));
                let target = target.transpose()?;
                if let Err(rejection) = check_edit(kind, (&message.from, role), target.as_ref()) {
                    return Ok(Err(rejection));
                }
                let mut changed = target.expect("`check_edit` rejects a missing target");
                changed.body = if kind == MessageKind::Edit { message.body.clone() } else { String::new() };
                changed.changed = true;
                self.messages.insert((id, changed.seq), changed.encode_to_vec().as_slice())?;
            }
        }
        self.push(id, row, message, time).map(Ok)
    }

    /// Appends a message.
    fn push(&mut self, id: &str, row: &mut ConversationRow, new: &NewMessage, time: u64) -> Result<Stored, WriteError> {
        row.last += 1;
        let NewMessage { from, device, id: sent, kind, target, body } = new.clone();
        // An edit has no body of its own, see [`MessageKind::Edit`].
        let body = if let MessageKind::Edit | MessageKind::Recall = kind { String::new() } else { body };
        let kind = kind as i32;
        let message = Message { seq: row.last, from, device, id: sent, body, kind, target, time, changed: false };
        self.messages.insert((id, row.last), message.encode_to_vec().as_slice())?;
        self.sent.insert((id, message.from.as_str(), message.device.as_str(), message.id.as_str()), row.last)?;
        Ok(Stored { seq: row.last, time, repeated: false })
    }

    /// Returns the stored message with this key.
    fn find(&self, conversation: &str, from: &str, device: &str, id: &str) -> Result<Option<Stored>, WriteError> {
        let Some(seq) = self.sent.get((conversation, from, device, id))?.map(|seq| seq.value()) else {
            return Ok(None);
        };
        let Some(message) = self.messages.get((conversation, seq))? else { return Ok(None) };
        let message: Message = decode(message.value())?;
        Ok(Some(Stored { seq, time: message.time, repeated: true }))
    }

    /// Creates a conversation with these members.
    fn begin<'a>(
        &mut self,
        id: &str,
        row: ConversationRow,
        members: impl Iterator<Item = (&'a str, Role)>,
    ) -> Result<ConversationRow, WriteError> {
        let mut row = ConversationRow { incarnation: rand::random(), first: 1, version: 1, ..row };
        for (member, role) in members {
            row.members += u64::from(self.put_member(id, member, MemberRow::new(role))?);
        }
        self.put_conversation(id, &row)?;
        Ok(row)
    }

    /// Applies a permitted change to the members; returns whether it has an effect.
    fn apply(&mut self, id: &str, row: &mut ConversationRow, by: &str, change: &Change) -> Result<bool, WriteError> {
        match change {
            Change::Join => self.add(id, row, &[by]),
            Change::Add(users) => self.add(id, row, &users.iter().map(String::as_str).collect::<Vec<_>>()),
            Change::Leave => {
                let was_owner = self.role(id, by)? == Some(Role::Owner);
                self.remove(id, row, by)?;
                if was_owner && let Some((successor, member)) = self.successor(id)? {
                    self.put_member(id, &successor, MemberRow { role: Role::Owner as u32, ..member })?;
                }
                Ok(true)
            }
            Change::Remove(user) => self.remove(id, row, user).map(|()| true),
            Change::SetRole(user, role) => {
                if *role == Role::Owner {
                    self.set_role(id, by, Role::Admin)?;
                }
                self.set_role(id, user, *role).map(|()| true)
            }
        }
    }

    /// Adds members; returns whether one of them was none before.
    fn add(&mut self, id: &str, row: &mut ConversationRow, users: &[&str]) -> Result<bool, WriteError> {
        let mut new = BTreeSet::new();
        for user in users {
            if self.role(id, user)?.is_none() {
                new.insert(*user);
            }
        }
        check_count(row.members + new.len() as u64).map_err(WriteError::Rejected)?;
        for user in &new {
            // A new member has received and read the earlier messages as far as counts are concerned.
            let member = MemberRow { delivered: row.last, read: row.last, ..MemberRow::new(Role::Member) };
            row.members += u64::from(self.put_member(id, user, member)?);
        }
        Ok(!new.is_empty())
    }

    fn remove(&mut self, id: &str, row: &mut ConversationRow, user: &str) -> Result<(), WriteError> {
        row.members -= u64::from(self.members.remove((id, user))?.is_some());
        self.of_user.remove((user, id))?;
        Ok(())
    }

    /// Returns the member that becomes the owner after the owner has left.
    fn successor(&self, id: &str) -> Result<Option<(String, MemberRow)>, WriteError> {
        let mut successor: Option<(String, MemberRow)> = None;
        for entry in self.members.range((id, "")..)? {
            let (key, row) = entry?;
            let (of, user) = key.value();
            if of != id {
                break;
            }
            let member: MemberRow = decode(row.value())?;
            if successor.as_ref().is_none_or(|(_, successor)| successor.role < member.role) {
                successor = Some((user.to_owned(), member));
            }
        }
        Ok(successor)
    }

    fn set_role(&mut self, id: &str, user: &str, role: Role) -> Result<(), WriteError> {
        if let Some(member) = tables::member(&self.members, id, user)? {
            self.put_member(id, user, MemberRow { role: role as u32, ..member })?;
        }
        Ok(())
    }

    fn role(&self, id: &str, user: &str) -> Result<Option<Role>, WriteError> {
        Ok(tables::member(&self.members, id, user)?.map(|member| member.role()))
    }

    pub(super) fn put_conversation(&mut self, id: &str, row: &ConversationRow) -> Result<(), WriteError> {
        self.conversations.insert(id, row.encode_to_vec().as_slice())?;
        Ok(())
    }

    /// Inserts or replaces a member; returns whether the member is new.
    pub(super) fn put_member(&mut self, id: &str, user: &str, member: MemberRow) -> Result<bool, WriteError> {
        let is_new = self.members.insert((id, user), member.encode_to_vec().as_slice())?.is_none();
        if is_new {
            self.of_user.insert((user, id), ())?;
        }
        Ok(is_new)
    }
}

/// Returns the milliseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
