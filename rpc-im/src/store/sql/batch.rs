//! [`Batch`]: the messages that a transaction appends to one conversation. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::rows::Conversation;
use crate::store::{Message, MessageKind, NewMessage, Rejection, Role, Stored, rules::check_edit};

/// The messages that a transaction appends to one conversation.
pub(super) struct Batch {
    /// The roles of the members that send messages.
    roles: BTreeMap<String, Role>,
    /// The stored messages with the same sender, device and id as one of the request.
    stored: HashMap<Key, Stored>,
    /// The stored messages that edits and recalls change.
    targets: BTreeMap<u64, Message>,
    edited: BTreeSet<u64>,
    appended: Vec<Message>,
    first_seq: u64,
    time: u64,
}

/// The identity that the sender gave a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) from: String,
    pub(super) device: String,
    pub(super) id: String,
}

impl Batch {
    /// Creates an empty batch that follows the last message of a conversation.
    pub(super) fn new(
        conversation: &Conversation,
        time: u64,
        roles: BTreeMap<String, Role>,
        stored: HashMap<Key, Stored>,
        targets: BTreeMap<u64, Message>,
    ) -> Self {
        let first_seq = conversation.last + 1;
        Self { roles, stored, targets, edited: BTreeSet::new(), appended: Vec::new(), first_seq, time }
    }

    /// Adds a message, unless it is stored already or rejected.
    pub(super) fn add(&mut self, message: &NewMessage) -> Result<Stored, Rejection> {
        let NewMessage { from, device, id, kind, target, body } = message;
        let key = Key { from: from.clone(), device: device.clone(), id: id.clone() };
        if let Some(stored) = self.stored.get(&key) {
            return Ok(*stored);
        }
        let role = *self.roles.get(from).ok_or(Rejection::NotMember)?;
        match kind {
            MessageKind::Text => {}
            MessageKind::Members => return Err(Rejection::NotPermitted),
            MessageKind::Edit | MessageKind::Recall => {
                let changed = self.target(*target);
                check_edit(*kind, (from, role), changed.as_deref())?;
                let changed = changed.ok_or(Rejection::NoTarget)?;
                changed.changed = true;
                changed.body = if *kind == MessageKind::Edit { body.clone() } else { String::new() };
                self.edited.insert(*target);
            }
        }
        let seq = self.first_seq + self.appended.len() as u64;
        self.stored.insert(key, Stored { seq, time: self.time, repeated: true });
        self.appended.push(Message {
            seq,
            from: from.clone(),
            device: device.clone(),
            id: id.clone(),
            body: if *kind == MessageKind::Text { body.clone() } else { String::new() },
            kind: *kind as i32,
            target: if *kind == MessageKind::Text { 0 } else { *target },
            time: self.time,
            changed: false,
        });
        Ok(Stored { seq, time: self.time, repeated: false })
    }

    /// Returns the messages to insert, and the stored messages to update.
    pub(super) fn into_parts(self) -> (Vec<Message>, Vec<Message>) {
        let edited = self.targets.into_values().filter(|target| self.edited.contains(&target.seq)).collect();
        (self.appended, edited)
    }

    /// Returns the message with this sequence number, which may be in this batch.
    fn target(&mut self, seq: u64) -> Option<&mut Message> {
        match seq.checked_sub(self.first_seq) {
            None => self.targets.get_mut(&seq),
            Some(index) => self.appended.get_mut(usize::try_from(index).ok()?),
        }
    }
}
