//! [`Book`]: all that one device of a user was told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rpc_im::envelope::{Ack, ClientFrame, Conversation, Presence, Push, Recipient, Send, SendAck, ServerFrame, Sync};

/// All that one device was told.
#[derive(Debug, Default)]
pub struct Book {
    /// The node that it is on.
    pub node: Option<String>,
    /// How often it came to a node.
    pub logins: u32,
    /// Why it will not come back, when it will not.
    pub ended: Option<String>,
    /// What it sent and was told to be safe, by its own ids.
    pub stored: BTreeMap<u64, Stored>,
    /// What it sent and was not yet told to be safe.
    pub unanswered: BTreeMap<u64, (Recipient, String)>,
    /// What is in each place of each conversation, as far as it was told.
    pub places: BTreeMap<String, BTreeMap<u64, Message>>,
    /// Who is there, by the last sync and what was said since.
    pub online: BTreeSet<String>,
    /// The conversations that it asked for, by its own ids.
    pub created: BTreeMap<u64, String>,
    /// What should not be.
    pub faults: Vec<String>,
    /// How often a message came a second time.
    pub repeated: u32,
    /// How often a node could not do now what it was asked for.
    pub refusals: u32,
    /// How long it was on no node, each time.
    pub absences: Vec<Duration>,
    pub(super) next_id: u64,
    by_message: BTreeMap<u64, (String, u64)>,
    by_body: BTreeMap<String, (String, u64)>,
}

/// A message that its sender was told to be safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where it was for.
    pub to: Recipient,
    /// The conversation that it is in.
    pub conversation: String,
    /// Its place there.
    pub seq: u64,
    /// What is there.
    pub message: Message,
}

/// What is in one place of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The cluster's id of it.
    pub message: u64,
    /// Who sent it.
    pub from: String,
    /// What it says.
    pub body: String,
}

impl Book {
    /// Up to where it has everything of a conversation.
    pub fn cursor(&self, conversation: &str) -> u64 {
        let places = self.places.get(conversation).into_iter().flatten();
        places.zip(1..).take_while(|((seq, _), expected)| **seq == *expected).count() as u64
    }

    fn cursors(&self) -> BTreeMap<String, u64> {
        self.places.keys().map(|conversation| (conversation.clone(), self.cursor(conversation))).collect()
    }

    /// Enters a message in its place, where there may be the same and nothing else; and nowhere else.
    fn enter(&mut self, conversation: &str, seq: u64, message: Message) {
        let place = (conversation.to_owned(), seq);
        for (what, other) in [
            ("this id", self.by_message.insert(message.message, place.clone())),
            ("this text", self.by_body.insert(message.body.clone(), place.clone())),
        ] {
            if other.as_ref().is_some_and(|other| *other != place) {
                self.faults.push(format!("{what} is at {place:?} and at {other:?}: {message:?}"));
            }
        }
        let places = self.places.entry(place.0).or_default();
        match places.insert(seq, message.clone()) {
            Some(known) if known != message => {
                self.faults.push(format!("in {conversation} at {seq} is {message:?} and was {known:?}"));
            }
            Some(_) => self.repeated += 1,
            None => {}
        }
    }

    /// What is asked by one who has this and lacks what came since.
    pub(super) fn sync(&self) -> ClientFrame {
        ClientFrame::Sync(Sync { cursors: self.cursors() })
    }

    /// What was not yet told to be safe.
    pub(super) fn owed(&self) -> Vec<ClientFrame> {
        self.unanswered.keys().filter_map(|id| self.send(*id)).collect()
    }

    /// A message as it is sent; nothing once it is safe.
    pub(super) fn send(&self, id: u64) -> Option<ClientFrame> {
        let (to, body) = self.unanswered.get(&id)?.clone();
        Some(ClientFrame::Send(Send { id: id.to_string(), to: Some(to), body }))
    }

    /// Writes down what a node told this user; gives what is to be answered.
    pub(super) fn write_down(&mut self, user: &str, frame: ServerFrame) -> Option<ClientFrame> {
        match frame {
            ServerFrame::Push(Push { message, from, conversation, seq, body }) => {
                self.enter(&conversation, seq, Message { message, from, body });
                return Some(ClientFrame::Ack(Ack { message }));
            }
            ServerFrame::SendAck(ack) => self.settle(user, ack),
            ServerFrame::Presence(Presence { user, online: true }) => {
                self.online.insert(user);
            }
            ServerFrame::Presence(Presence { user, online: false }) => {
                self.online.remove(&user);
            }
            ServerFrame::Conversation(Conversation { id: Some(id), conversation, .. }) => {
                let id = id.parse().expect("it is an id of this client");
                self.created.insert(id, conversation);
            }
            _ => {}
        }
        None
    }

    fn settle(&mut self, user: &str, ack: SendAck) {
        let SendAck { id, message, conversation, seq } = ack;
        let id = id.parse().expect("it is an id of this client");
        if let Some((to, body)) = self.unanswered.remove(&id) {
            let message = Message { message, from: user.to_owned(), body };
            self.enter(&conversation, seq, message.clone());
            self.stored.insert(id, Stored { to, conversation, seq, message });
            return;
        }
        let stored = &self.stored[&id];
        if (&stored.conversation, stored.seq, stored.message.message) != (&conversation, seq, message) {
            self.faults.push(format!("{stored:?} is acknowledged again as {message} in {conversation} at {seq}"));
        }
    }
}
