//! [`Conversations`]: the conversations of the user, in the order in which they became known.

use rpc_im::envelope::{Conversation, Push};

/// The conversations of the user, in the order in which they became known.
#[derive(Debug, Default)]
pub(crate) struct Conversations {
    known: Vec<Known>,
}

/// A conversation and what this client knows about it.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) frame: Conversation,
    /// The number before which `/history` continues.
    pub(crate) before: u64,
    /// The number of the last message of this user.
    pub(crate) last_own: u64,
}

impl Conversations {
    /// Returns the conversation with this id.
    pub(crate) fn find(&mut self, id: &str) -> Option<&mut Known> {
        self.known.iter_mut().find(|known| known.frame.conversation == id)
    }

    /// Returns the conversation with this number of `/list`.
    pub(crate) fn numbered(&self, number: usize) -> Option<&Known> {
        self.known.get(number.checked_sub(1)?)
    }

    /// Returns the conversation with a user that is not a group.
    pub(crate) fn with_user(&self, user: &str, own: &str) -> Option<&Known> {
        let is_pair = |known: &&Known| !known.frame.group && known.peer(own) == user;
        self.known.iter().find(is_pair)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.known.iter()
    }

    /// Inserts or updates the description of a conversation.
    pub(crate) fn insert(&mut self, frame: Conversation) {
        match self.find(&frame.conversation) {
            // The node may not have handled the last read report yet.
            Some(known) => known.frame = Conversation { read: frame.read.max(known.frame.read), ..frame },
            None => self.known.push(Known { before: frame.seq + 1, frame, last_own: 0 }),
        }
    }

    /// Returns the conversation of a message; inserts one that no node has described yet.
    pub(crate) fn of_message(&mut self, push: &Push, own: &str) -> &mut Known {
        let index = self.known.iter().position(|known| known.frame.conversation == push.conversation);
        let index = index.unwrap_or_else(|| {
            let (conversation, incarnation) = (push.conversation.clone(), push.incarnation);
            // Ids of groups begin with `g-`.
            let group = conversation.starts_with("g-");
            let mut members = vec![own.to_owned()];
            if !group && push.from != own {
                members.push(push.from.clone());
            }
            self.insert(Conversation { conversation, incarnation, group, members, ..Conversation::default() });
            self.known.len() - 1
        });
        &mut self.known[index]
    }

    pub(crate) fn remove(&mut self, id: &str) {
        self.known.retain(|known| known.frame.conversation != id);
    }
}

impl Known {
    /// Returns the title: the name of the group, or the other members.
    pub(crate) fn title(&self, own: &str) -> String {
        let Conversation { name, members, group, .. } = &self.frame;
        if !name.is_empty() {
            return name.clone();
        }
        if !group {
            return self.peer(own).to_owned();
        }
        let others: Vec<_> = members.iter().filter(|member| *member != own).map(String::as_str).collect();
        if others.is_empty() { "group".to_owned() } else { others.join(", ") }
    }

    /// Returns the other user of a conversation of two users.
    fn peer<'a>(&'a self, own: &'a str) -> &'a str {
        self.frame.members.iter().find(|member| *member != own).map_or(own, String::as_str)
    }
}
