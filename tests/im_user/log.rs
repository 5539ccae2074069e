//! [`Log`]: the record of everything that one device of a user has received.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rpc_im::envelope::{
    Ack, ClientFrame, Conversation, Position, Presence, Push, Recipient, Send, SendAck, ServerFrame, Sync,
};

/// The record of one device.
#[derive(Debug, Default)]
pub struct Log {
    /// The node to which the device is connected.
    pub node: Option<String>,
    /// The number of successful logins.
    pub logins: u32,
    /// The reason why the device will not reconnect, once the cluster has ended its session.
    pub ended: Option<String>,
    /// The acknowledged messages of this device, by its ids.
    pub stored: BTreeMap<u64, Stored>,
    /// The messages of this device without an acknowledgement, by its ids.
    pub unanswered: BTreeMap<u64, (Recipient, String)>,
    /// The known messages of each conversation, by sequence number.
    pub messages: BTreeMap<String, BTreeMap<u64, Message>>,
    /// The users that are online, according to the last sync and later presence reports.
    pub online: BTreeSet<String>,
    /// The conversations that the device created, by its ids.
    pub created: BTreeMap<u64, String>,
    /// Violations of a guarantee.
    pub violations: Vec<String>,
    /// The number of duplicate messages.
    pub duplicates: u32,
    /// The number of requests that a node rejected temporarily.
    pub rejections: u32,
    /// The duration of each time without a connection.
    pub disconnections: Vec<Duration>,
    pub(super) next_id: u64,
    by_body: BTreeMap<String, (String, u64)>,
}

/// An acknowledged message of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The recipient.
    pub to: Recipient,
    /// The conversation.
    pub conversation: String,
    /// The sequence number in the conversation.
    pub seq: u64,
    /// The message.
    pub message: Message,
}

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The incarnation of the conversation.
    pub incarnation: u64,
    /// The time at which it was stored.
    pub time: u64,
    /// The sender.
    pub from: String,
    /// The content.
    pub body: String,
}

impl Log {
    /// Returns the sequence number up to which the device has all messages of a conversation.
    pub fn cursor(&self, conversation: &str) -> u64 {
        let messages = self.messages.get(conversation).into_iter().flatten();
        messages.zip(1..).take_while(|((seq, _), expected)| **seq == *expected).count() as u64
    }

    fn cursors(&self) -> BTreeMap<String, Position> {
        let cursor = |(conversation, messages): (&String, &BTreeMap<u64, Message>)| {
            let incarnation = messages.values().next()?.incarnation;
            Some((conversation.clone(), Position { incarnation, seq: self.cursor(conversation) }))
        };
        self.messages.iter().filter_map(cursor).collect()
    }

    /// Records a message at its position, and a violation if the position has another message or the message another position.
    fn insert(&mut self, conversation: &str, seq: u64, message: Message) {
        let position = (conversation.to_owned(), seq);
        let other = self.by_body.insert(message.body.clone(), position.clone());
        if other.as_ref().is_some_and(|other| *other != position) {
            self.violations.push(format!("the same body is at {position:?} and at {other:?}: {message:?}"));
        }
        let messages = self.messages.entry(position.0).or_default();
        match messages.insert(seq, message.clone()) {
            Some(known) if known != message => {
                self.violations.push(format!("{conversation} has {message:?} at {seq}, and had {known:?}"));
            }
            Some(_) => self.duplicates += 1,
            None => {}
        }
    }

    /// Returns a sync frame with the cursors of the device, for the conversations after one of them; empty for all.
    pub(super) fn sync(&self, after: &str) -> ClientFrame {
        let cursors = self.cursors().into_iter().filter(|(conversation, _)| conversation.as_str() > after).collect();
        ClientFrame::Sync(Sync { cursors, after: after.to_owned(), ..Sync::default() })
    }

    /// Returns the frames of all messages without an acknowledgement.
    pub(super) fn unanswered_frames(&self) -> Vec<ClientFrame> {
        self.unanswered.keys().filter_map(|id| self.send(*id)).collect()
    }

    /// Returns the frame of a message, or `None` once it is acknowledged.
    pub(super) fn send(&self, id: u64) -> Option<ClientFrame> {
        let (to, body) = self.unanswered.get(&id)?.clone();
        Some(ClientFrame::Send(Send { id: id.to_string(), to: Some(to), body }))
    }

    /// Records a frame of a node; returns the frame to send in response.
    pub(super) fn record(&mut self, user: &str, frame: ServerFrame) -> Option<ClientFrame> {
        match frame {
            ServerFrame::Push(Push { conversation, incarnation, seq, from, time, body, .. }) => {
                self.insert(&conversation, seq, Message { incarnation, time, from, body });
                let seq = self.cursor(&conversation);
                return Some(ClientFrame::Ack(Ack { conversation, seq }));
            }
            ServerFrame::SendAck(ack) => self.acknowledge(user, ack),
            ServerFrame::Presence(Presence { user, online: true }) => {
                self.online.insert(user);
            }
            ServerFrame::Presence(Presence { user, online: false }) => {
                self.online.remove(&user);
            }
            ServerFrame::Conversation(Conversation { id: Some(id), conversation, .. }) => {
                let id = id.parse().expect("nodes return the ids of this device");
                self.created.insert(id, conversation);
            }
            _ => {}
        }
        None
    }

    fn acknowledge(&mut self, user: &str, ack: SendAck) {
        let SendAck { id, conversation, incarnation, seq, time } = ack;
        let id = id.parse().expect("nodes return the ids of this device");
        if let Some((to, body)) = self.unanswered.remove(&id) {
            let message = Message { incarnation, time, from: user.to_owned(), body };
            self.insert(&conversation, seq, message.clone());
            self.stored.insert(id, Stored { to, conversation, seq, message });
            return;
        }
        let stored = &self.stored[&id];
        if (&stored.conversation, stored.seq, stored.message.incarnation) != (&conversation, seq, incarnation) {
            self.violations.push(format!("{stored:?} is acknowledged again in {conversation} at {seq}"));
        }
    }
}
