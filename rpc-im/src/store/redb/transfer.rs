//! Exported and imported conversations.

use std::ops::Bound;

use prost::Message as _;
use redb::{ReadTransaction, ReadableTable as _};

use super::{
    super::{
        StoreError,
        transfer::{ExportedConversation, ImportPart},
    },
    error::{WriteError, failed},
    tables::{CONVERSATIONS, ConversationRow, MemberRow, Tables, conversation, decode},
};

/// Returns up to `limit` conversations after the id `after`.
pub(super) fn all_conversations(
    transaction: &ReadTransaction,
    after: &str,
    limit: usize,
) -> Result<Vec<ExportedConversation>, StoreError> {
    let all = transaction.open_table(CONVERSATIONS).map_err(failed)?;
    let after = (Bound::Excluded(after), Bound::Unbounded);
    let mut found = Vec::new();
    for entry in all.range::<&str>(after).map_err(failed)?.take(limit) {
        let (id, row) = entry.map_err(failed)?;
        let ConversationRow { is_group, open, name, first, last, version, .. } = decode(row.value())?;
        found.push(ExportedConversation { id: id.value().to_owned(), is_group, open, name, first, last, version });
    }
    Ok(found)
}

impl Tables<'_> {
    pub(super) fn import(&mut self, part: &ImportPart) -> Result<bool, WriteError> {
        match part {
            ImportPart::Begin(id) => {
                if conversation(&self.conversations, id)?.is_some() {
                    return Ok(false);
                }
                self.remove_parts(id)?;
            }
            ImportPart::Members(id, members) => {
                for member in members {
                    let row = MemberRow { role: member.role as u32, delivered: member.delivered, read: member.read };
                    self.put_member(id, &member.user, row)?;
                }
            }
            ImportPart::Messages(id, messages) => {
                for message in messages {
                    let key = (id.as_str(), message.from.as_str(), message.device.as_str(), message.id.as_str());
                    self.sent.insert(key, message.seq)?;
                    self.messages.insert((id.as_str(), message.seq), message.encode_to_vec().as_slice())?;
                }
            }
            ImportPart::End(ExportedConversation { id, is_group, open, name, first, last, version }, members, _) => {
                let row = ConversationRow {
                    incarnation: rand::random(),
                    is_group: *is_group,
                    open: *open,
                    name: name.clone(),
                    first: *first,
                    last: *last,
                    version: *version,
                    members: *members,
                };
                self.put_conversation(id, &row)?;
            }
        }
        Ok(true)
    }

    /// Removes the members and messages of a conversation that does not exist.
    fn remove_parts(&mut self, id: &str) -> Result<(), WriteError> {
        let mut users = Vec::new();
        for entry in self.members.range((id, "")..)? {
            let (key, _) = entry?;
            let (of, user) = key.value();
            if of != id {
                break;
            }
            users.push(user.to_owned());
        }
        for user in &users {
            self.members.remove((id, user.as_str()))?;
            self.of_user.remove((user.as_str(), id))?;
        }
        for entry in self.messages.extract_from_if((id, 0)..=(id, u64::MAX), |_, _| true)? {
            let message: super::super::Message = decode(entry?.1.value())?;
            self.sent.remove((id, message.from.as_str(), message.device.as_str(), message.id.as_str()))?;
        }
        Ok(())
    }
}
