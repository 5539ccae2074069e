//! [`Ledger`]: what a client has heard and what it owes; no I/O, no clock.

use std::collections::{BTreeMap, HashMap};

use super::{Event, Wish};
use crate::envelope::{Ack, ClientFrame, Push, ServerFrame, Sync};

/// What a client has heard, and what it has asked for and was not answered yet.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Conversation → how far it is known without a hole.
    cursors: BTreeMap<String, u64>,
    /// What came before what is before it; and what this client has sent itself.
    early: HashMap<String, BTreeMap<u64, Option<Push>>>,
    /// In the order they were asked for.
    unanswered: Vec<(String, ClientFrame)>,
}

impl Ledger {
    /// Whether one more may be asked for.
    pub(super) fn has_room(&self) -> bool {
        self.unanswered.len() < MAX_UNANSWERED
    }

    /// Writes down what the program asks for; gives the frame that says it.
    pub(super) fn handle_wish(&mut self, wish: Wish) -> ClientFrame {
        let (id, frame) = match wish {
            Wish::Send(send) => (send.id.clone(), ClientFrame::Send(send)),
            Wish::Create(create) => (create.id.clone(), ClientFrame::Create(create)),
        };
        self.unanswered.push((id, frame.clone()));
        frame
    }

    /// What is to be said to a node that the client has just come to: what it lacks, and what was not answered.
    pub(super) fn owed(&self) -> Vec<ClientFrame> {
        let unanswered = self.unanswered.iter().map(|(_, frame)| frame.clone());
        std::iter::once(self.sync()).chain(unanswered).collect()
    }

    /// What a frame means to the program, and what is to be said about it.
    pub(super) fn handle_frame(&mut self, frame: ServerFrame) -> (Vec<Event>, Vec<ClientFrame>) {
        match frame {
            ServerFrame::Push(push) => {
                let ack = ClientFrame::Ack(Ack { message: push.message });
                let (conversation, seq) = (push.conversation.clone(), push.seq);
                let (events, asks) = self.place(&conversation, seq, Some(push));
                (events, std::iter::once(ack).chain(asks).collect())
            }
            ServerFrame::SendAck(ack) => {
                // One that was sent again may be answered again.
                if !self.settle(&ack.id) {
                    return (Vec::new(), Vec::new());
                }
                let (mut events, asks) = self.place(&ack.conversation, ack.seq, None);
                events.insert(0, Event::Stored { id: ack.id, conversation: ack.conversation, seq: ack.seq });
                (events, asks)
            }
            ServerFrame::Error(error) => match error.id {
                Some(id) if self.settle(&id) => (vec![Event::Failed { id, reason: error.message }], Vec::new()),
                _ => (Vec::new(), Vec::new()),
            },
            ServerFrame::Conversation(conversation) => {
                if let Some(id) = &conversation.id {
                    self.settle(id);
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

    /// Takes what is answered out; false when it was answered before.
    fn settle(&mut self, id: &str) -> bool {
        let before = self.unanswered.len();
        self.unanswered.retain(|(known, _)| known != id);
        self.unanswered.len() < before
    }

    /// Gives a message its place: those that are next are told, later ones wait, known ones are nothing new.
    fn place(&mut self, conversation: &str, seq: u64, push: Option<Push>) -> (Vec<Event>, Vec<ClientFrame>) {
        let cursor = self.cursors.entry(conversation.to_owned()).or_default();
        if seq <= *cursor {
            return (Vec::new(), Vec::new());
        }
        let early = self.early.entry(conversation.to_owned()).or_default();
        let is_first_hole = early.is_empty();
        // One's own message may come as a push too, from a sync: it is told once, by its ack.
        let place = early.entry(seq).or_insert(None);
        if push.is_some() && place.is_none() {
            *place = push;
        }
        let mut events = Vec::new();
        while let Some(next) = early.remove(&(*cursor + 1)) {
            *cursor += 1;
            events.extend(next.map(Event::Message));
        }
        let has_hole = !early.is_empty();
        if early.len() > MAX_EARLY {
            // They come again with the sync.
            early.clear();
        }
        if !has_hole {
            self.early.remove(conversation);
        }
        let asks = if has_hole && is_first_hole { vec![self.sync()] } else { Vec::new() };
        (events, asks)
    }
}

/// What may be unanswered at a time.
const MAX_UNANSWERED: usize = 32;
/// Messages of a conversation that are kept while earlier ones are missing.
const MAX_EARLY: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Lagging, Recipient, Send, SendAck, code};

    fn push(seq: u64) -> ServerFrame {
        let body = seq.to_string();
        ServerFrame::Push(Push { message: seq, from: "bo".into(), conversation: "c".into(), seq, body })
    }

    fn told(events: &[Event]) -> Vec<u64> {
        events.iter().filter_map(|event| if let Event::Message(push) = event { Some(push.seq) } else { None }).collect()
    }

    fn asked_from(asks: &[ClientFrame]) -> Option<u64> {
        asks.iter().find_map(|ask| match ask {
            ClientFrame::Sync(sync) => Some(sync.cursors.get("c").copied().unwrap_or(0)),
            _ => None,
        })
    }

    #[test]
    fn messages_are_told_in_their_order_and_once() {
        let mut ledger = Ledger::default();
        let (events, asks) = ledger.handle_frame(push(1));
        assert_eq!((told(&events), asked_from(&asks)), (vec![1], None));
        let (events, asks) = ledger.handle_frame(push(3));
        assert_eq!((told(&events), asked_from(&asks)), (vec![], Some(1)), "2 is asked for");
        let (events, asks) = ledger.handle_frame(push(4));
        assert_eq!((told(&events), asked_from(&asks)), (vec![], None), "and not again");
        let (events, _) = ledger.handle_frame(push(2));
        assert_eq!(told(&events), [2, 3, 4]);
        for seq in 1..=4 {
            assert!(told(&ledger.handle_frame(push(seq)).0).is_empty());
        }
    }

    #[test]
    fn an_own_message_has_its_place_and_is_not_told() {
        let mut ledger = Ledger::default();
        let to = Some(Recipient::User("bo".into()));
        ledger.handle_wish(Wish::Send(Send { id: "1".into(), to, body: "hi".into() }));
        assert_eq!(ledger.owed().len(), 2, "the sync, and the message again");
        let ack = SendAck { id: "1".into(), message: 7, conversation: "c".into(), seq: 2 };
        let (events, asks) = ledger.handle_frame(ServerFrame::SendAck(ack.clone()));
        assert_eq!(events, [Event::Stored { id: "1".into(), conversation: "c".into(), seq: 2 }]);
        assert_eq!(asked_from(&asks), Some(0));
        assert_eq!(told(&ledger.handle_frame(push(1)).0), [1]);
        assert_eq!(asked_from(&[ledger.sync()]), Some(2));
        assert_eq!(ledger.handle_frame(ServerFrame::SendAck(ack)).0, [], "an answer that comes twice");
        assert_eq!(ledger.owed().len(), 1);
    }

    #[test]
    fn who_lags_asks() {
        let mut ledger = Ledger::default();
        ledger.handle_frame(push(1));
        let (_, asks) = ledger.handle_frame(ServerFrame::Lagging(Lagging::default()));
        assert_eq!(asked_from(&asks), Some(1));
    }

    #[test]
    fn a_refusal_is_told_once_and_not_asked_for_again() {
        let mut ledger = Ledger::default();
        ledger.handle_wish(Wish::Send(Send { id: "1".into(), to: None, body: String::new() }));
        let refusal = ServerFrame::error(Some("1".into()), code::NOT_FOUND, "no such conversation");
        let failed = Event::Failed { id: "1".into(), reason: "no such conversation".into() };
        assert_eq!(ledger.handle_frame(refusal.clone()).0, [failed]);
        assert_eq!(ledger.handle_frame(refusal).0, []);
        assert_eq!(ledger.owed().len(), 1);
    }
}
