//! [`ClientState`]: the received sequence numbers and the unanswered requests of a client.
//!
//! It does no I/O and uses no clock.

use std::collections::{BTreeMap, HashMap};

use super::event::{Command, Event};
use crate::envelope::{Ack, ClientFrame, Push, ServerFrame, Sync};

/// The state of a client that outlives its connections.
///
/// It consists of cursors, messages out of order, and unanswered requests.
#[derive(Debug, Default)]
pub(super) struct ClientState {
    /// Conversation → the sequence number up to which the client has every message.
    cursors: BTreeMap<String, u64>,
    /// Messages that arrived before an earlier one; `None` for a message that this client sent itself.
    out_of_order: HashMap<String, BTreeMap<u64, Option<Push>>>,
    /// Requests without an answer, in the order of the program's commands.
    unanswered: Vec<(String, ClientFrame)>,
}

impl ClientState {
    /// Returns whether the client may accept another command.
    pub(super) fn has_capacity(&self) -> bool {
        self.unanswered.len() < MAX_UNANSWERED
    }

    /// Records a command as unanswered and returns its frame.
    pub(super) fn handle_command(&mut self, command: Command) -> ClientFrame {
        let (id, frame) = match command {
            Command::Send(send) => (send.id.clone(), ClientFrame::Send(send)),
            Command::Create(create) => (create.id.clone(), ClientFrame::Create(create)),
        };
        self.unanswered.push((id, frame.clone()));
        frame
    }

    /// Returns the frames that a client sends after it connects: a sync, then every unanswered request.
    pub(super) fn frames_on_connect(&self) -> Vec<ClientFrame> {
        let unanswered = self.unanswered.iter().map(|(_, frame)| frame.clone());
        std::iter::once(self.sync()).chain(unanswered).collect()
    }

    /// Handles a frame of the node; returns the events for the program and the frames to send in response.
    pub(super) fn handle_frame(&mut self, frame: ServerFrame) -> (Vec<Event>, Vec<ClientFrame>) {
        match frame {
            ServerFrame::Push(push) => {
                let ack = ClientFrame::Ack(Ack { message: push.message });
                let (conversation, seq) = (push.conversation.clone(), push.seq);
                let (events, replies) = self.insert(&conversation, seq, Some(push));
                (events, std::iter::once(ack).chain(replies).collect())
            }
            ServerFrame::SendAck(ack) => {
                // A message that was sent again may be acknowledged again.
                if !self.complete(&ack.id) {
                    return (Vec::new(), Vec::new());
                }
                let (mut events, replies) = self.insert(&ack.conversation, ack.seq, None);
                events.insert(0, Event::Stored { id: ack.id, conversation: ack.conversation, seq: ack.seq });
                (events, replies)
            }
            ServerFrame::Error(error) => match error.id {
                Some(id) if self.complete(&id) => (vec![Event::Failed { id, reason: error.message }], Vec::new()),
                _ => (Vec::new(), Vec::new()),
            },
            ServerFrame::Conversation(conversation) => {
                if let Some(id) = &conversation.id {
                    self.complete(id);
                }
                (vec![Event::Conversation(conversation)], Vec::new())
            }
            ServerFrame::Presence(presence) => (vec![Event::Presence(presence)], Vec::new()),
            ServerFrame::Lagging(_) => (Vec::new(), vec![self.sync()]),
            _ => (Vec::new(), Vec::new()),
        }
    }

    fn sync(&self) -> ClientFrame {
        ClientFrame::Sync(Sync { cursors: self.cursors.clone() })
    }

    /// Removes an answered request; returns false if it was answered before.
    fn complete(&mut self, id: &str) -> bool {
        let before = self.unanswered.len();
        self.unanswered.retain(|(known, _)| known != id);
        self.unanswered.len() < before
    }

    /// Inserts a message by its sequence number, and returns the messages that are now in order.
    ///
    /// Keeps a message that is not in order yet, and ignores a duplicate.
    fn insert(&mut self, conversation: &str, seq: u64, push: Option<Push>) -> (Vec<Event>, Vec<ClientFrame>) {
        let cursor = self.cursors.entry(conversation.to_owned()).or_default();
        if seq <= *cursor {
            return (Vec::new(), Vec::new());
        }
        let out_of_order = self.out_of_order.entry(conversation.to_owned()).or_default();
        let is_first_gap = out_of_order.is_empty();
        // A sync may push the client's own message besides its ack: both share one slot, so they advance the cursor
        // once.
        let slot = out_of_order.entry(seq).or_insert(None);
        if push.is_some() && slot.is_none() {
            *slot = push;
        }
        let mut events = Vec::new();
        while let Some(next) = out_of_order.remove(&(*cursor + 1)) {
            *cursor += 1;
            events.extend(next.map(Event::Message));
        }
        let has_gap = !out_of_order.is_empty();
        if out_of_order.len() > MAX_OUT_OF_ORDER {
            // The answer to the sync contains them again.
            out_of_order.clear();
        }
        if !has_gap {
            self.out_of_order.remove(conversation);
        }
        let replies = if has_gap && is_first_gap { vec![self.sync()] } else { Vec::new() };
        (events, replies)
    }
}

/// The maximum number of unanswered requests.
const MAX_UNANSWERED: usize = 32;
/// The maximum number of messages of a conversation that wait for a missing earlier one.
const MAX_OUT_OF_ORDER: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Lagging, Recipient, Send, SendAck, code};

    fn push(seq: u64) -> ServerFrame {
        let body = seq.to_string();
        ServerFrame::Push(Push { message: seq, from: "bo".into(), conversation: "c".into(), seq, body })
    }

    fn messages(events: &[Event]) -> Vec<u64> {
        events.iter().filter_map(|event| if let Event::Message(push) = event { Some(push.seq) } else { None }).collect()
    }

    fn sync_cursor(frames: &[ClientFrame]) -> Option<u64> {
        frames.iter().find_map(|frame| match frame {
            ClientFrame::Sync(sync) => Some(sync.cursors.get("c").copied().unwrap_or(0)),
            _ => None,
        })
    }

    #[test]
    fn state_emits_messages_in_order_and_once() {
        let mut state = ClientState::default();
        let (events, frames) = state.handle_frame(push(1));
        assert_eq!((messages(&events), sync_cursor(&frames)), (vec![1], None));
        let (events, frames) = state.handle_frame(push(3));
        assert_eq!((messages(&events), sync_cursor(&frames)), (vec![], Some(1)), "a gap causes a sync");
        let (events, frames) = state.handle_frame(push(4));
        assert_eq!((messages(&events), sync_cursor(&frames)), (vec![], None), "the same gap causes no second sync");
        let (events, _) = state.handle_frame(push(2));
        assert_eq!(messages(&events), [2, 3, 4]);
        for seq in 1..=4 {
            assert!(messages(&state.handle_frame(push(seq)).0).is_empty());
        }
    }

    #[test]
    fn ack_fills_sequence_number_without_message_event() {
        let mut state = ClientState::default();
        let to = Some(Recipient::User("bo".into()));
        state.handle_command(Command::Send(Send { id: "1".into(), to, body: "hi".into() }));
        assert_eq!(state.frames_on_connect().len(), 2, "the sync and the unanswered message");
        let ack = SendAck { id: "1".into(), message: 7, conversation: "c".into(), seq: 2 };
        let (events, frames) = state.handle_frame(ServerFrame::SendAck(ack.clone()));
        assert_eq!(events, [Event::Stored { id: "1".into(), conversation: "c".into(), seq: 2 }]);
        assert_eq!(sync_cursor(&frames), Some(0));
        assert_eq!(messages(&state.handle_frame(push(1)).0), [1]);
        assert_eq!(sync_cursor(&[state.sync()]), Some(2));
        assert_eq!(state.handle_frame(ServerFrame::SendAck(ack)).0, [], "a duplicate ack");
        assert_eq!(state.frames_on_connect().len(), 1);
    }

    #[test]
    fn lagging_causes_sync() {
        let mut state = ClientState::default();
        state.handle_frame(push(1));
        let (_, frames) = state.handle_frame(ServerFrame::Lagging(Lagging::default()));
        assert_eq!(sync_cursor(&frames), Some(1));
    }

    #[test]
    fn rejection_is_reported_once_and_not_retried() {
        let mut state = ClientState::default();
        state.handle_command(Command::Send(Send { id: "1".into(), to: None, body: String::new() }));
        let rejection = ServerFrame::error(Some("1".into()), code::NOT_FOUND, "no such conversation");
        let failed = Event::Failed { id: "1".into(), reason: "no such conversation".into() };
        assert_eq!(state.handle_frame(rejection.clone()).0, [failed]);
        assert_eq!(state.handle_frame(rejection).0, []);
        assert_eq!(state.frames_on_connect().len(), 1);
    }
}
