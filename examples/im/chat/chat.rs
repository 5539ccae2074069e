//! [`Chat`]: the state of the terminal client, and the requests of its commands.

use std::{collections::HashMap, time::Duration};

use rpc_im::{
    client::{Client, Event},
    envelope::{
        ChangeMembers, ClientFrame, Create, Edit, HistoryRequest, ListMembers, MemberChange, Recall, Recipient, Send,
    },
};

use crate::{
    command::{COMMANDS, Command},
    conversations::Conversations,
};

/// The state of the terminal client.
pub(crate) struct Chat {
    pub(crate) user: String,
    pub(crate) client: Client,
    pub(crate) to: Option<Recipient>,
    pub(crate) conversations: Conversations,
    /// Requests without an answer, by id.
    pub(crate) pending: HashMap<String, Pending>,
    sent: u64,
    /// A random prefix that makes ids unique across runs.
    run: u64,
}

/// A request without an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Pending {
    /// A message to this recipient.
    Message(Recipient),
    /// A group that the user creates or joins.
    Group,
    /// A change that ends the membership of the user.
    Leave,
    /// Any other request.
    Other,
}

impl Chat {
    pub(crate) fn new(user: String, client: Client, to: Option<String>) -> Self {
        Self {
            user,
            client,
            to: to.map(Recipient::User),
            conversations: Conversations::default(),
            pending: HashMap::new(),
            sent: 0,
            run: rand::random(),
        }
    }

    /// Returns the next event, or `None` after the end of the session.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        self.client.next().await
    }

    pub(crate) async fn execute(&mut self, command: Command) {
        match command {
            Command::Text(body) => match self.to.clone() {
                Some(to) => {
                    let frame = |id| ClientFrame::Send(Send { id, to: Some(to.clone()), body });
                    self.request(Pending::Message(to.clone()), frame).await;
                }
                None => print_line!("  no recipient; select one with /to USER"),
            },
            Command::To(user) => {
                let known = self.conversations.with_user(&user, &self.user);
                let known = known.map(|known| Recipient::Conversation(known.frame.conversation.clone()));
                self.select(known.unwrap_or(Recipient::User(user))).await;
            }
            Command::In(number) => match self.conversations.numbered(number) {
                Some(known) => self.select(Recipient::Conversation(known.frame.conversation.clone())).await,
                None => print_line!("  no conversation has this number; /list prints the numbers"),
            },
            Command::List => self.list(),
            Command::Group { name, members, open } => {
                self.request(Pending::Group, |id| ClientFrame::Create(Create { id, name, members, open })).await;
            }
            Command::Join(conversation) => {
                let change = Some(MemberChange::Join(true));
                let frame = |id| ClientFrame::ChangeMembers(ChangeMembers { id, conversation, change });
                self.request(Pending::Group, frame).await;
            }
            Command::Quit => {}
            command => match self.current() {
                Some(conversation) => self.execute_in(conversation, command).await,
                None => print_line!("  no conversation; select one with /in N"),
            },
        }
    }

    /// Executes a command that concerns the current conversation.
    async fn execute_in(&mut self, conversation: String, command: Command) {
        match command {
            Command::History(limit) => {
                let Some(known) = self.conversations.find(&conversation) else { return };
                let before = known.before;
                let frame = |id| ClientFrame::History(HistoryRequest { id, conversation, before, limit });
                self.request(Pending::Other, frame).await;
            }
            Command::Edit(target, body) => {
                let frame = |id| ClientFrame::Edit(Edit { id, conversation, target, body });
                self.request(Pending::Other, frame).await;
            }
            Command::Recall(target) => {
                self.request(Pending::Other, |id| ClientFrame::Recall(Recall { id, conversation, target })).await;
            }
            Command::Members => self.list_members(conversation, String::new()).await,
            Command::Change(change) => {
                let pending = if let MemberChange::Leave(_) = change { Pending::Leave } else { Pending::Other };
                let change = Some(change);
                let frame = |id| ClientFrame::ChangeMembers(ChangeMembers { id, conversation, change });
                self.request(pending, frame).await;
            }
            _ => print_line!("  usage: {COMMANDS}"),
        }
    }

    /// Requests the members after a name.
    pub(crate) async fn list_members(&mut self, conversation: String, after: String) {
        let frame = |id| ClientFrame::ListMembers(ListMembers { id, conversation, after });
        self.request(Pending::Other, frame).await;
    }

    /// Makes a user or a conversation the recipient of the following lines, and reports its messages as read.
    pub(crate) async fn select(&mut self, to: Recipient) {
        let title = match &to {
            Recipient::User(user) => user.clone(),
            Recipient::Conversation(id) => match self.conversations.find(id) {
                Some(known) => known.title(&self.user),
                None => id.clone(),
            },
        };
        print_line!("* recipient: {title}");
        self.to = Some(to);
        if let Some(conversation) = self.current() {
            self.report_read(&conversation).await;
        }
    }

    /// Reports that the user has read a conversation up to its last message.
    pub(crate) async fn report_read(&mut self, conversation: &str) {
        let Some(known) = self.conversations.find(conversation) else { return };
        known.frame.unread = 0;
        if known.frame.read < known.frame.seq {
            known.frame.read = known.frame.seq;
            self.client.read(conversation.to_owned(), known.frame.seq).await;
        }
    }

    /// Returns the id of the current conversation, if it has begun.
    pub(crate) fn current(&self) -> Option<String> {
        match self.to.as_ref()? {
            Recipient::Conversation(conversation) => Some(conversation.clone()),
            Recipient::User(user) => {
                self.conversations.with_user(user, &self.user).map(|known| known.frame.conversation.clone())
            }
        }
    }

    fn list(&self) {
        for (number, known) in (1..).zip(self.conversations.iter()) {
            let (title, frame) = (known.title(&self.user), &known.frame);
            let id = if frame.group { format!(", id {}", frame.conversation) } else { String::new() };
            print_line!("  {number}: {title} ({} messages, {} unread{id})", frame.seq, frame.unread);
        }
    }

    /// Sends a request, which the client repeats until a node answers it.
    async fn request(&mut self, pending: Pending, frame: impl FnOnce(String) -> ClientFrame) {
        self.sent += 1;
        let id = format!("{:x}-{}", self.run, self.sent);
        self.pending.insert(id.clone(), pending);
        self.client.request(id.clone(), frame(id)).await;
    }

    /// Waits up to 5 s for the answers to the last requests.
    pub(crate) async fn wait_for_answers(&mut self) {
        let answered = async {
            while !self.pending.is_empty() {
                let Some(event) = self.client.next().await else { return };
                self.handle_event(event).await;
            }
        };
        if tokio::time::timeout(ANSWER_TIMEOUT, answered).await.is_err() {
            print_line!("* the last requests may have had no effect");
        }
    }
}

/// The time that the last requests have to be answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
