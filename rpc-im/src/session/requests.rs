//! [`Requests`]: the requests of one session's client, executed in order.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{outbox::Outbox, sync::SyncAnswer};
use crate::{
    conversation::frames,
    envelope::{
        ChangeMembers, ClientFrame, Create, Edit, History, HistoryRequest, ListMembers, Members, Pong, Recall,
        Recipient, Send, SendAck, ServerFrame, Sync, code,
    },
    identity::SessionId,
    node::context::NodeContext,
    store::{
        ConversationRef, MembersChange, MessageKind, NewConversation, NewMessage, PageRequest, Range, Rejection,
        StoreError, group_id,
    },
};

/// The requests of one session's client, executed in order.
pub(super) struct Requests {
    pub(super) user: String,
    device: String,
    pub(super) session: SessionId,
    outbox: Arc<Outbox>,
    pub(super) context: Arc<NodeContext>,
    queue: Mutex<RequestQueue>,
}

#[derive(Default)]
struct RequestQueue {
    requests: VecDeque<Request>,
    /// Whether a task executes the requests.
    is_served: bool,
}

enum Request {
    /// A message, an edit or a recall.
    Append(Recipient, NewMessage),
    Create(Create),
    Sync(Sync),
    History(HistoryRequest),
    ChangeMembers(ChangeMembers),
    ListMembers(ListMembers),
}

impl Requests {
    pub(super) fn new(
        (user, device): (String, String),
        session: SessionId,
        outbox: Arc<Outbox>,
        context: Arc<NodeContext>,
    ) -> Self {
        Self { user, device, session, outbox, context, queue: Mutex::default() }
    }

    /// Queues the request of a frame, and starts a task for the queue unless one is running.
    pub(super) fn handle(self: &Arc<Self>, frame: ClientFrame) {
        let request = match frame {
            ClientFrame::Send(Send { id, to: Some(to), body }) => {
                Request::Append(to, self.message(id, MessageKind::Text, 0, body))
            }
            ClientFrame::Send(Send { id, to: None, .. }) => {
                return self.reply_error(Some(id), code::BAD_FRAME, "field `to` is missing");
            }
            ClientFrame::Edit(Edit { id, conversation, target, body }) => Request::Append(
                Recipient::Conversation(conversation),
                self.message(id, MessageKind::Edit, target, body),
            ),
            ClientFrame::Recall(Recall { id, conversation, target }) => {
                let message = self.message(id, MessageKind::Recall, target, String::new());
                Request::Append(Recipient::Conversation(conversation), message)
            }
            ClientFrame::Create(create) => Request::Create(create),
            ClientFrame::Sync(sync) => Request::Sync(sync),
            ClientFrame::History(history) => Request::History(history),
            ClientFrame::ChangeMembers(change) => Request::ChangeMembers(change),
            ClientFrame::ListMembers(list) => Request::ListMembers(list),
            ClientFrame::Ping(_) => return self.reply(ServerFrame::Pong(Pong {})),
            ClientFrame::Ack(ack) => return self.context.receipts.record(ack.conversation, &self.user, ack.seq, 0),
            ClientFrame::Read(read) => return self.context.receipts.record(read.conversation, &self.user, 0, read.seq),
            ClientFrame::Pong(_) => return,
            ClientFrame::Auth(_) => {
                return self.reply_error(None, code::BAD_FRAME, "the session is authenticated already");
            }
        };
        let mut queue = self.queue();
        if queue.requests.len() >= MAX_WAITING {
            drop(queue);
            let message = format!("{MAX_WAITING} requests are waiting (Session::MAX_WAITING); retry in a second");
            return self.reply_error(request.id(), code::TOO_MANY, message);
        }
        queue.requests.push_back(request);
        if !queue.is_served {
            queue.is_served = true;
            drop(queue);
            self.context.tasks.spawn(Arc::clone(self).serve());
        }
    }

    /// Executes requests until none waits.
    async fn serve(self: Arc<Self>) {
        loop {
            let Some(request) = self.next() else { return };
            match request {
                Request::Append(to, first) => self.append(to, first).await,
                Request::Create(create) => self.create(create).await,
                Request::Sync(sync) => {
                    let id = sync.id.clone();
                    let answer = SyncAnswer::new(&self.user, &self.outbox, &self.context, sync);
                    if let Err(error) = answer.send().await {
                        self.reply_failure(id, &error);
                    }
                }
                Request::History(request) => self.history(request).await,
                Request::ChangeMembers(request) => self.change_members(request).await,
                Request::ListMembers(request) => self.list_members(request).await,
            }
        }
    }

    fn next(&self) -> Option<Request> {
        let mut queue = self.queue();
        let next = queue.requests.pop_front();
        // Cleared under the lock of the check, so a request that arrives afterwards starts a new task.
        queue.is_served = next.is_some() && !self.outbox.is_closed();
        next.filter(|_| queue.is_served)
    }

    /// Stores a message and the directly following ones to the same recipient.
    ///
    /// They are stored in one call, so that they keep their order.
    async fn append(&self, to: Recipient, first: NewMessage) {
        let mut messages = vec![first];
        {
            let mut queue = self.queue();
            while let Some(Request::Append(..)) =
                queue.requests.front().filter(|next| matches!(next, Request::Append(other, _) if *other == to))
                && let Some(Request::Append(_, message)) = queue.requests.pop_front()
            {
                messages.push(message);
            }
        }
        let to = match to {
            Recipient::User(user) => ConversationRef::of_pair(&self.user, &user),
            Recipient::Conversation(conversation) => ConversationRef::of_group(conversation),
        };
        let conversation = to.conversation.clone();
        let ids: Vec<_> = messages.iter().map(|message| message.id.clone()).collect();
        match self.context.appender.append(to, messages, self.session).await {
            Ok(outcome) => {
                for (id, message) in ids.into_iter().zip(outcome.messages) {
                    match message {
                        Ok(stored) => self.reply(ServerFrame::SendAck(SendAck {
                            id,
                            conversation: conversation.clone(),
                            incarnation: outcome.incarnation,
                            seq: stored.seq,
                            time: stored.time,
                        })),
                        Err(rejection) => self.reply_error(Some(id), code_of(rejection), rejection.to_string()),
                    }
                }
            }
            Err(error) => {
                for id in ids {
                    self.reply_failure(Some(id), &error);
                }
            }
        }
    }

    async fn create(&self, create: Create) {
        let Create { id, name, members, open } = create;
        let conversation = group_id(&self.user, &self.device, &id);
        let new = NewConversation { conversation, name, creator: self.user.clone(), members, open };
        match self.context.store.create(new).await {
            Ok(info) => {
                self.reply(ServerFrame::Conversation(frames::conversation(Some(id), info.clone())));
                self.announce_group(&info).await;
            }
            Err(error) => self.reply_failure(Some(id), &error),
        }
    }

    async fn history(&self, request: HistoryRequest) {
        self.outbox.wait_for_capacity().await;
        let HistoryRequest { id, conversation, before, limit } = request;
        let max_messages = (limit as usize).clamp(1, MAX_HISTORY);
        let page = PageRequest { range: Range::Before(before), max_messages, max_bytes: MAX_HISTORY_BYTES };
        match self.context.store.read(conversation.clone(), self.user.clone(), page).await {
            Ok(page) => {
                let push = |message| frames::push(&conversation, page.incarnation, message);
                let messages = page.messages.into_iter().map(push).collect();
                self.reply(ServerFrame::History(History { id, conversation, first: page.first, messages }));
            }
            Err(error) => self.reply_failure(Some(id), &error),
        }
    }

    async fn change_members(&self, request: ChangeMembers) {
        self.outbox.wait_for_capacity().await;
        let ChangeMembers { id, conversation, change } = request;
        let Some(change) = change.and_then(crate::envelope::MemberChange::into_change) else {
            return self.reply_error(Some(id), code::BAD_FRAME, "field `change` is missing or has an unknown role");
        };
        let request = MembersChange {
            conversation: conversation.clone(),
            by: self.user.clone(),
            device: self.device.clone(),
            id: id.clone(),
            change: change.clone(),
        };
        let appended = match self.context.store.change_members(request).await {
            Ok(appended) => appended,
            Err(error) => return self.reply_failure(Some(id), &error),
        };
        let info = self.context.store.conversation(conversation.clone(), self.user.clone()).await;
        self.announce_change(&id, &conversation, &change, &appended, info.as_ref().ok()).await;
        match info {
            Ok(info) => self.reply(ServerFrame::Conversation(frames::conversation(Some(id), info))),
            Err(StoreError::NotFound) => {
                let stored = appended.messages.first().and_then(|stored| stored.as_ref().ok());
                let (seq, time) = stored.map_or((0, 0), |stored| (stored.seq, stored.time));
                let incarnation = appended.incarnation;
                self.reply(ServerFrame::SendAck(SendAck { id, conversation, incarnation, seq, time }));
            }
            Err(error) => self.reply_failure(Some(id), &error),
        }
    }

    async fn list_members(&self, request: ListMembers) {
        self.outbox.wait_for_capacity().await;
        let ListMembers { id, conversation, after } = request;
        let store = &self.context.store;
        if let Err(error) = store.conversation(conversation.clone(), self.user.clone()).await {
            return self.reply_failure(Some(id), &error);
        }
        match store.members(conversation.clone(), after, MEMBERS_PAGE).await {
            Ok(page) => {
                let members = page.members.into_iter().map(frames::member).collect();
                self.reply(ServerFrame::Members(Members { id, conversation, members }));
            }
            Err(error) => self.reply_failure(Some(id), &error),
        }
    }

    pub(super) fn message(&self, id: String, kind: MessageKind, target: u64, body: String) -> NewMessage {
        NewMessage { from: self.user.clone(), device: self.device.clone(), id, kind, target, body }
    }

    fn reply_failure(&self, id: Option<String>, error: &StoreError) {
        let code = match error {
            StoreError::NotFound => code::NOT_FOUND,
            StoreError::Rejected(_) => code::NOT_PERMITTED,
            StoreError::Unavailable(_) => code::UNAVAILABLE,
        };
        self.reply_error(id, code, error.to_string());
    }

    fn reply_error(&self, id: Option<String>, code: &str, message: impl Into<String>) {
        self.reply(ServerFrame::error(id, code, message));
    }

    fn reply(&self, frame: ServerFrame) {
        // An ended session has no client that could read the frame.
        let _ = self.outbox.push(Arc::new(frame));
    }

    fn queue(&self) -> MutexGuard<'_, RequestQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request {
    fn id(&self) -> Option<String> {
        match self {
            Self::Append(_, message) => Some(message.id.clone()),
            Self::Create(create) => Some(create.id.clone()),
            Self::History(request) => Some(request.id.clone()),
            Self::ChangeMembers(request) => Some(request.id.clone()),
            Self::ListMembers(request) => Some(request.id.clone()),
            Self::Sync(sync) => sync.id.clone(),
        }
    }
}

fn code_of(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::NotMember | Rejection::NoTarget => code::NOT_FOUND,
        Rejection::NotPermitted => code::NOT_PERMITTED,
    }
}

/// The maximum number of waiting requests of one session.
pub(super) const MAX_WAITING: usize = 64;
/// The maximum number of messages in the answer to one request for earlier messages.
const MAX_HISTORY: usize = 100;
/// The maximum number of bytes of their bodies, unless one message is longer: 256 KiB.
const MAX_HISTORY_BYTES: usize = 256 << 10;
/// The number of members in one answer.
const MEMBERS_PAGE: usize = 100;
