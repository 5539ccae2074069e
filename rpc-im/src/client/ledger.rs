//! [`ClientState`]: the received sequence numbers and the unanswered requests of a client.
//!
//! It does no I/O and uses no clock.

use std::{collections::BTreeMap, ops::Bound};

use super::{
    event::{Command, Event},
    sync_queue::{SyncQueue, SyncRange},
};
use crate::envelope::{Ack, ClientFrame, Conversation, Position, Push, ServerFrame, Sync, Synced};

/// The state of a client that outlives its connections.
///
/// It consists of cursors, messages out of order, and unanswered requests.
#[derive(Debug, Default)]
pub(super) struct ClientState {
    histories: BTreeMap<String, History>,
    syncs: SyncQueue,
    /// Requests without an answer, in the order of the program's commands.
    unanswered: Vec<(String, ClientFrame)>,
}

/// The received messages of a conversation.
#[derive(Debug)]
struct History {
    incarnation: u64,
    /// The sequence number up to which the client has every message.
    cursor: u64,
    /// Messages that arrived before an earlier one; `None` for a message that this client sent itself.
    out_of_order: BTreeMap<u64, Option<Push>>,
}

impl ClientState {
    /// Returns whether the client may accept another command.
    pub(super) fn has_capacity(&self) -> bool {
        self.unanswered.len() < MAX_UNANSWERED
    }

    /// Returns whether an earlier message of some conversation is missing.
    pub(super) fn has_gap(&self) -> bool {
        self.histories.values().any(|history| !history.out_of_order.is_empty())
    }

    /// Records a request as unanswered; returns the frame to send.
    pub(super) fn handle_command(&mut self, command: Command) -> ClientFrame {
        match command {
            Command::Request { id, frame } => {
                self.unanswered.push((id, frame.clone()));
                frame
            }
            Command::Notice(frame) => frame,
        }
    }

    /// Returns the frames that a client sends after it connects: a sync, then every unanswered request.
    pub(super) fn frames_on_connect(&mut self) -> Vec<ClientFrame> {
        self.syncs.restart();
        self.frames_to_repeat()
    }

    /// Returns the frames that a client sends again after a rejection: the sync in progress, and every unanswered
    /// request.
    pub(super) fn frames_to_repeat(&self) -> Vec<ClientFrame> {
        self.sync_page().into_iter().chain(self.unanswered.iter().map(|(_, frame)| frame.clone())).collect()
    }

    /// Requests the missing messages before those that arrived out of order; returns the frame to send, if any.
    pub(super) fn sync_gaps(&mut self) -> Option<ClientFrame> {
        let with_gap = self.histories.iter().filter(|(_, history)| !history.out_of_order.is_empty());
        let with_gap: Vec<_> = with_gap.map(|(conversation, _)| conversation.clone()).collect();
        let frames: Vec<_> = with_gap.iter().filter_map(|conversation| self.sync_conversation(conversation)).collect();
        frames.into_iter().next()
    }

    /// Requests the messages of one conversation; returns the frame to send, if no sync is in progress.
    fn sync_conversation(&mut self, conversation: &str) -> Option<ClientFrame> {
        let before = self.histories.range::<str, _>((Bound::Unbounded, Bound::Excluded(conversation))).next_back();
        let after = before.map_or(String::new(), |(before, _)| before.clone());
        self.request(SyncRange { after, until: conversation.to_owned() })
    }

    fn request(&mut self, range: SyncRange) -> Option<ClientFrame> {
        if self.syncs.request(range) { self.sync_page() } else { None }
    }

    /// Returns the request for the next page of the sync in progress.
    ///
    /// It has the cursors of the first conversations only, so that the frame keeps the limit of nodes.
    fn sync_page(&self) -> Option<ClientFrame> {
        let SyncRange { after, until } = self.syncs.current()?.clone();
        let end = if until.is_empty() { Bound::Unbounded } else { Bound::Included(until.as_str()) };
        let mut known = self.histories.range::<str, _>((Bound::Excluded(after.as_str()), end));
        let cursor = |(conversation, history): (&String, &History)| {
            (conversation.clone(), Position { incarnation: history.incarnation, seq: history.cursor })
        };
        let cursors: BTreeMap<_, _> = known.by_ref().take(SYNC_CURSORS).map(cursor).collect();
        let last = cursors.keys().next_back().filter(|_| known.next().is_some()).cloned();
        Some(ClientFrame::Sync(Sync { cursors, after, until: last.unwrap_or(until), ..Sync::default() }))
    }

    /// Handles the end of a page of a sync.
    fn handle_synced(&mut self, synced: Synced) -> (Vec<Event>, Vec<ClientFrame>) {
        let next = if self.syncs.handle_page(&synced) { self.sync_page() } else { None };
        let removed = |conversation: String| {
            let known = self.histories.remove(&conversation);
            known.map(|_| Event::Removed { conversation })
        };
        (synced.gone.into_iter().filter_map(removed).collect(), next.into_iter().collect())
    }

    /// Handles a frame of the node; returns the events for the program and the frames to send in response.
    pub(super) fn handle_frame(&mut self, frame: ServerFrame) -> (Vec<Event>, Vec<ClientFrame>) {
        match frame {
            ServerFrame::Push(push) => {
                let (conversation, incarnation, seq) = (push.conversation.clone(), push.incarnation, push.seq);
                self.insert(&conversation, incarnation, seq, Some(push))
            }
            ServerFrame::SendAck(ack) => {
                // A message that was sent again may be acknowledged again.
                if !self.complete(&ack.id) {
                    return (Vec::new(), Vec::new());
                }
                let (mut events, replies) = self.insert(&ack.conversation, ack.incarnation, ack.seq, None);
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
                let (mut events, replies) = self.handle_start(&conversation);
                events.insert(0, Event::Conversation(conversation));
                (events, replies)
            }
            ServerFrame::Presence(presence) => (vec![Event::Presence(presence)], Vec::new()),
            ServerFrame::Receipt(receipt) => (vec![Event::Receipt(receipt)], Vec::new()),
            ServerFrame::History(history) => {
                self.complete(&history.id);
                (vec![Event::History(history)], Vec::new())
            }
            ServerFrame::Members(members) => {
                self.complete(&members.id);
                (vec![Event::Members(members)], Vec::new())
            }
            ServerFrame::Lagging(lagging) => {
                let sync = match lagging.conversation.is_empty() {
                    true => self.request(SyncRange::all()),
                    false => self.sync_conversation(&lagging.conversation),
                };
                (Vec::new(), sync.into_iter().collect())
            }
            ServerFrame::Synced(synced) => self.handle_synced(synced),
            _ => (Vec::new(), Vec::new()),
        }
    }

    /// Removes an answered request; returns false if it was answered before.
    fn complete(&mut self, id: &str) -> bool {
        let before = self.unanswered.len();
        self.unanswered.retain(|(known, _)| known != id);
        self.unanswered.len() < before
    }

    /// Handles the start of a conversation in the answer to a sync: the messages after `after` follow.
    fn handle_start(&mut self, conversation: &Conversation) -> (Vec<Event>, Vec<ClientFrame>) {
        let Conversation { conversation: id, incarnation, after, .. } = conversation;
        let history = self.history(id, *incarnation);
        let mut events = Vec::new();
        if history.incarnation != *incarnation {
            *history = History { incarnation: *incarnation, cursor: *after, out_of_order: BTreeMap::new() };
            events.push(Event::Reset { conversation: id.clone() });
        }
        history.cursor = history.cursor.max(*after);
        history.out_of_order = history.out_of_order.split_off(&(history.cursor + 1));
        events.extend(history.take_in_order());
        (events, Vec::new())
    }

    /// Inserts a message by its sequence number; returns the messages that are now in order, and an acknowledgement.
    ///
    /// Keeps a message that is not in order yet, and ignores a duplicate. A message of another history causes a sync.
    fn insert(
        &mut self,
        conversation: &str,
        incarnation: u64,
        seq: u64,
        push: Option<Push>,
    ) -> (Vec<Event>, Vec<ClientFrame>) {
        let history = self.history(conversation, incarnation);
        if history.incarnation != incarnation {
            return (Vec::new(), self.sync_conversation(conversation).into_iter().collect());
        }
        if seq <= history.cursor {
            return (Vec::new(), Vec::new());
        }
        // A sync may push the client's own message besides its ack: both share one slot, so they advance the cursor
        // once.
        let slot = history.out_of_order.entry(seq).or_insert(None);
        if push.is_some() && slot.is_none() {
            *slot = push;
        }
        let before = history.cursor;
        let events = history.take_in_order();
        if history.out_of_order.len() > MAX_OUT_OF_ORDER {
            // The answer to a sync contains it again.
            history.out_of_order.pop_last();
        }
        let ack = (history.cursor > before).then(|| Ack { conversation: conversation.to_owned(), seq: history.cursor });
        (events, ack.map(ClientFrame::Ack).into_iter().collect())
    }

    fn history(&mut self, conversation: &str, incarnation: u64) -> &mut History {
        let new = || History { incarnation, cursor: 0, out_of_order: BTreeMap::new() };
        self.histories.entry(conversation.to_owned()).or_insert_with(new)
    }
}

impl History {
    /// Takes the messages that follow the cursor without a gap.
    fn take_in_order(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(next) = self.out_of_order.remove(&(self.cursor + 1)) {
            self.cursor += 1;
            events.extend(next.map(Event::Message));
        }
        events
    }
}

/// The number of cursors in one sync: with the longest ids, the frame has less than 64 KiB.
const SYNC_CURSORS: usize = 200;
/// The maximum number of unanswered requests.
const MAX_UNANSWERED: usize = 32;
/// The maximum number of messages of a conversation that wait for a missing earlier one.
const MAX_OUT_OF_ORDER: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Lagging, Recipient, Send, SendAck, code};

    fn push(seq: u64) -> ServerFrame {
        push_of(7, seq)
    }

    fn push_of(incarnation: u64, seq: u64) -> ServerFrame {
        let body = seq.to_string();
        ServerFrame::Push(Push {
            from: "bo".into(),
            conversation: "c".into(),
            incarnation,
            seq,
            body,
            ..Push::default()
        })
    }

    fn conversation(incarnation: u64, after: u64) -> ServerFrame {
        let conversation = "c".into();
        ServerFrame::Conversation(Conversation { conversation, incarnation, after, ..Conversation::default() })
    }

    fn send() -> Command {
        let to = Some(Recipient::User("bo".into()));
        Command::Request { id: "1".into(), frame: ClientFrame::Send(Send { id: "1".into(), to, body: "hi".into() }) }
    }

    fn messages(events: &[Event]) -> Vec<u64> {
        events.iter().filter_map(|event| if let Event::Message(push) = event { Some(push.seq) } else { None }).collect()
    }

    fn acked(frames: &[ClientFrame]) -> Option<u64> {
        frames.iter().find_map(|frame| if let ClientFrame::Ack(ack) = frame { Some(ack.seq) } else { None })
    }

    /// Returns the cursor of the next sync of all conversations, in which nothing else is in progress.
    fn cursor(state: &mut ClientState) -> Option<u64> {
        state.syncs.restart();
        sync_cursor(&state.sync_page().into_iter().collect::<Vec<_>>())
    }

    fn sync_cursor(frames: &[ClientFrame]) -> Option<u64> {
        frames.iter().find_map(|frame| match frame {
            ClientFrame::Sync(sync) => Some(sync.cursors.get("c").map_or(0, |cursor| cursor.seq)),
            _ => None,
        })
    }

    #[test]
    fn state_emits_messages_in_order_and_once() {
        let mut state = ClientState::default();
        let (events, frames) = state.handle_frame(push(1));
        assert_eq!((messages(&events), acked(&frames), state.has_gap()), (vec![1], Some(1), false));
        for seq in [3, 4] {
            let (events, frames) = state.handle_frame(push(seq));
            assert_eq!((messages(&events), acked(&frames), state.has_gap()), (vec![], None, true));
        }
        let (events, frames) = state.handle_frame(push(2));
        assert_eq!((messages(&events), acked(&frames), state.has_gap()), (vec![2, 3, 4], Some(4), false));
        for seq in 1..=4 {
            assert!(messages(&state.handle_frame(push(seq)).0).is_empty());
        }
    }

    #[test]
    fn ack_fills_sequence_number_without_message_event() {
        let mut state = ClientState::default();
        state.handle_command(send());
        assert_eq!(state.frames_on_connect().len(), 2, "the sync and the unanswered message");
        let ack = SendAck { id: "1".into(), conversation: "c".into(), incarnation: 7, seq: 2, time: 0 };
        let (events, _) = state.handle_frame(ServerFrame::SendAck(ack.clone()));
        assert_eq!(events, [Event::Stored { id: "1".into(), conversation: "c".into(), seq: 2 }]);
        assert!(state.has_gap());
        assert_eq!(messages(&state.handle_frame(push(1)).0), [1]);
        assert_eq!(cursor(&mut state), Some(2));
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
    fn another_history_replaces_the_received_one() {
        let mut state = ClientState::default();
        (1..=3).for_each(|seq| drop(state.handle_frame(push(seq))));
        let (events, frames) = state.handle_frame(push_of(8, 1));
        assert_eq!((messages(&events), sync_cursor(&frames)), (vec![], Some(3)), "its cursor is of the old history");
        let (events, _) = state.handle_frame(conversation(8, 0));
        assert!(events.contains(&Event::Reset { conversation: "c".into() }));
        assert_eq!(messages(&state.handle_frame(push_of(8, 1)).0), [1]);
    }

    #[test]
    fn a_sync_that_begins_later_moves_the_cursor() {
        let mut state = ClientState::default();
        state.handle_frame(push(1));
        state.handle_frame(push(11));
        let (events, _) = state.handle_frame(conversation(7, 10));
        assert_eq!((messages(&events), state.has_gap()), (vec![11], false));
        state.handle_frame(conversation(7, 0));
        assert_eq!(cursor(&mut state), Some(11), "a cursor never moves back");
    }

    #[test]
    fn rejection_is_reported_once_and_not_retried() {
        let mut state = ClientState::default();
        state.handle_command(send());
        let rejection = ServerFrame::error(Some("1".into()), code::NOT_FOUND, "no such conversation");
        let failed = Event::Failed { id: "1".into(), reason: "no such conversation".into() };
        assert_eq!(state.handle_frame(rejection.clone()).0, [failed]);
        assert_eq!(state.handle_frame(rejection).0, []);
        assert_eq!(state.frames_on_connect().len(), 1);
    }

    #[test]
    fn sync_of_many_conversations_has_bounded_pages() {
        let mut state = ClientState::default();
        for number in 0..1000 {
            let conversation = format!("{number:0>128}");
            let push = Push { conversation, incarnation: u64::MAX, seq: 1, ..Push::default() };
            state.handle_frame(ServerFrame::Push(push));
        }
        let mut next = state.frames_on_connect();
        let mut synced = Vec::new();
        while let [ClientFrame::Sync(sync)] = &next[..] {
            assert!(next[0].to_json().len() < 64 << 10);
            assert!(sync.cursors.keys().all(|id| *id > sync.after && (sync.until.is_empty() || *id <= sync.until)));
            synced.extend(sync.cursors.keys().cloned());
            // The node reports that the user is no member of the last conversation of each page.
            let gone = sync.cursors.keys().next_back().cloned().into_iter().collect();
            let (more, after) = (!sync.until.is_empty(), sync.until.clone());
            let (events, frames) = state.handle_frame(ServerFrame::Synced(Synced { id: None, after, more, gone }));
            assert!(matches!(&events[..], [Event::Removed { .. }]), "{events:?}");
            next = frames;
        }
        assert_eq!((synced.len(), state.histories.len()), (1000, 995));
        assert!(synced.is_sorted());
    }

    #[test]
    fn gap_causes_sync_of_its_conversation() {
        let mut state = ClientState::default();
        for id in ["a", "c"] {
            let push = Push { conversation: id.into(), incarnation: 7, seq: 1, ..Push::default() };
            state.handle_frame(ServerFrame::Push(push));
        }
        state.handle_frame(push(3));
        let Some(ClientFrame::Sync(sync)) = state.sync_gaps() else { panic!("no sync") };
        assert_eq!((&*sync.after, &*sync.until, sync.cursors["c"].seq, sync.cursors.len()), ("a", "c", 1, 1));
        assert_eq!(state.sync_gaps(), None, "the sync is in progress");
    }
}
