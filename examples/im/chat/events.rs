//! The output for the events of the client.

use rpc_im::{
    client::Event,
    envelope::{Conversation, History, Members, Push, Receipt, Recipient},
    store::{Change, MessageKind},
};

use crate::{
    chat::{Chat, Pending},
    conversations::Known,
};

impl Chat {
    pub(crate) async fn handle_event(&mut self, event: Event) {
        match event {
            Event::Connected { node } => print_line!("* connected to node {node}"),
            Event::Disconnected => print_line!("* disconnected; connecting to another node"),
            Event::Message(push) => self.handle_message(push).await,
            Event::Stored { id, conversation, seq } => self.handle_stored(&id, conversation, seq),
            Event::Failed { id, reason } => {
                self.pending.remove(&id);
                print_line!("* rejected: {reason}");
            }
            Event::Conversation(conversation) => self.handle_conversation(conversation).await,
            Event::Presence(presence) => {
                print_line!("* {} is {}", presence.user, if presence.online { "online" } else { "offline" });
            }
            Event::Receipt(receipt) => self.handle_receipt(&receipt),
            Event::History(history) => self.handle_history(history),
            Event::Members(members) => self.handle_members(members).await,
            Event::Removed { conversation } => {
                if let Some(known) = self.conversations.find(&conversation) {
                    print_line!("* you are no member of {} any more", known.title(&self.user));
                }
                self.conversations.remove(&conversation);
                if self.to == Some(Recipient::Conversation(conversation)) {
                    self.to = None;
                }
            }
            Event::Reset { conversation } => print_line!("* the history of {conversation} was restored from a backup"),
            _ => {}
        }
    }

    async fn handle_message(&mut self, push: Push) {
        if self.to.is_none() && push.from != self.user {
            self.to = Some(Recipient::Conversation(push.conversation.clone()));
        }
        let is_current = self.current().as_ref() == Some(&push.conversation);
        let known = self.conversations.of_message(&push, &self.user);
        // A sync also contains messages that the user has read or sent on another device.
        let is_own = push.from == self.user;
        let is_read = push.seq <= known.frame.read || is_own && push.seq <= known.frame.seq;
        if push.seq > known.frame.seq {
            known.frame.seq = push.seq;
            known.frame.unread += u32::from(push.kind() == MessageKind::Text && !is_own);
        }
        if is_own {
            known.last_own = push.seq;
        }
        if !is_read {
            known.before = known.before.min(push.seq);
            print_line!("{}", text_of(&push, known, &self.user));
        }
        if is_current {
            self.report_read(&push.conversation).await;
        }
    }

    fn handle_stored(&mut self, id: &str, conversation: String, seq: u64) {
        let pending = self.pending.remove(id);
        if pending == Some(Pending::Leave) {
            print_line!("* you left the group");
            self.conversations.remove(&conversation);
            self.to = None;
            return;
        }
        let mut own = 0;
        if let Some(Pending::Message(to)) = pending {
            print_line!("  [{seq}] stored");
            own = seq;
            if let Recipient::User(user) = &to {
                if self.conversations.find(&conversation).is_none() {
                    let members = vec![self.user.clone(), user.clone()];
                    self.conversations.insert(Conversation {
                        conversation: conversation.clone(),
                        members,
                        ..Conversation::default()
                    });
                }
                if self.to.as_ref() == Some(&to) {
                    self.to = Some(Recipient::Conversation(conversation.clone()));
                }
            }
        }
        if let Some(known) = self.conversations.find(&conversation) {
            known.last_own = known.last_own.max(own);
            known.frame.seq = known.frame.seq.max(seq);
        }
    }

    async fn handle_conversation(&mut self, conversation: Conversation) {
        let (id, key) = (conversation.id.clone(), conversation.conversation.clone());
        self.conversations.insert(conversation);
        if id.and_then(|id| self.pending.remove(&id)) == Some(Pending::Group) {
            print_line!("* group {key}");
            self.select(Recipient::Conversation(key)).await;
        }
    }

    /// Prints a receipt for the messages of this user in the current conversation.
    fn handle_receipt(&mut self, receipt: &Receipt) {
        let Receipt { conversation, user, delivered, read } = receipt;
        let is_current = self.current().as_ref() == Some(conversation);
        let Some(known) = self.conversations.find(conversation) else { return };
        if *user == self.user {
            if *read >= known.frame.seq {
                known.frame.unread = 0;
            }
            known.frame.read = known.frame.read.max(*read);
        } else if is_current && known.last_own > 0 && (*read).max(*delivered) >= known.last_own {
            let action = if *read >= known.last_own { "read" } else { "received" };
            print_line!("  [{}] {action} by {user}", known.last_own);
        }
    }

    fn handle_history(&mut self, history: History) {
        self.pending.remove(&history.id);
        let Some(known) = self.conversations.find(&history.conversation) else { return };
        match history.messages.first() {
            Some(first) => known.before = first.seq,
            None => print_line!("  no earlier messages"),
        }
        for message in &history.messages {
            print_line!("{}", text_of(message, known, &self.user));
        }
    }

    async fn handle_members(&mut self, answer: Members) {
        self.pending.remove(&answer.id);
        for member in &answer.members {
            let (user, role) = (&member.user, &member.role);
            print_line!("  {user}: {role}, received up to {}, read up to {}", member.delivered, member.read);
        }
        if let (MEMBERS_PAGE.., Some(last)) = (answer.members.len(), answer.members.last()) {
            self.list_members(answer.conversation.clone(), last.user.clone()).await;
        }
    }
}

/// Returns the line of a message: its number, sender, group and text.
fn text_of(push: &Push, known: &Known, own: &str) -> String {
    let Push { seq, from, target, changed, body, .. } = push;
    let group = if known.frame.group { format!(" in {}", known.title(own)) } else { String::new() };
    match push.kind() {
        MessageKind::Text if *changed && body.is_empty() => format!("[{seq}] {from}{group}: (recalled)"),
        MessageKind::Text if *changed => format!("[{seq}] {from}{group}: {body} (edited)"),
        MessageKind::Text => format!("[{seq}] {from}{group}: {body}"),
        MessageKind::Recall => format!("[{seq}] {from}{group} recalled message {target}"),
        MessageKind::Edit => format!("[{seq}] {from}{group} edited message {target}: {body}"),
        MessageKind::Members => format!("[{seq}] {from}{group} {}", change_text(body)),
    }
}

/// Returns the text of the change in the body of a [`MessageKind::Members`] message.
fn change_text(body: &str) -> String {
    match serde_json::from_str(body) {
        Ok(Change::Join) => "joined".to_owned(),
        Ok(Change::Leave) => "left".to_owned(),
        Ok(Change::Add(users)) => format!("added {}", users.join(", ")),
        Ok(Change::Remove(user)) => format!("removed {user}"),
        Ok(Change::SetRole(user, role)) => format!("made {user} {}", role.name()),
        Err(_) => "changed the members".to_owned(),
    }
}

/// The number of members in an answer that may not be the last one.
const MEMBERS_PAGE: usize = 100;
