//! [`Requests`]: the requests of one session's client, executed in order.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::outbox::Outbox;
use crate::{
    conversation::{ConversationError, ConversationRef, NewMessage, group_id},
    envelope::{
        ClientFrame, Conversation, Create, Lagging, Pong, Presence, Push, Recipient, Send, SendAck, ServerFrame, Sync,
        code,
    },
    identity::SessionId,
    node::context::NodeContext,
    presence::MAX_CONTACT_GROUP,
    store::Header,
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
    Send(Send),
    Create(Create),
    Sync(Sync),
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
            ClientFrame::Send(send) => Request::Send(send),
            ClientFrame::Create(create) => Request::Create(create),
            ClientFrame::Sync(sync) => Request::Sync(sync),
            ClientFrame::Ping(_) => return self.reply(ServerFrame::Pong(Pong {})),
            // The store keeps all messages, and a client reports its progress by the cursors of its syncs.
            ClientFrame::Ack(_) | ClientFrame::Pong(_) => return,
            ClientFrame::Auth(_) => {
                return self.reply(ServerFrame::error(None, code::BAD_FRAME, "the session is authenticated already"));
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
                Request::Send(first) => self.send(first).await,
                Request::Create(create) => self.create(create).await,
                Request::Sync(sync) => self.sync(sync).await,
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
    async fn send(&self, first: Send) {
        let to = first.to.clone();
        let mut batch = vec![first];
        {
            let mut queue = self.queue();
            while matches!(queue.requests.front(), Some(Request::Send(send)) if send.to == to)
                && let Some(Request::Send(send)) = queue.requests.pop_front()
            {
                batch.push(send);
            }
        }
        let to = match to {
            Some(Recipient::User(user)) => ConversationRef::of_pair(&self.user, &user),
            Some(Recipient::Conversation(conversation)) => ConversationRef::of_group(conversation),
            None => return self.reply_error(Some(batch.remove(0).id), code::BAD_FRAME, "field `to` is missing"),
        };
        let conversation = to.conversation.clone();
        let message = |send: &Send| NewMessage {
            from: self.user.clone(),
            device: self.device.clone(),
            session: self.session,
            id: send.id.clone(),
            body: send.body.clone(),
        };
        match self.context.conversations.append(to, batch.iter().map(message).collect()).await {
            Ok(stored) => {
                for (send, stored) in batch.into_iter().zip(stored) {
                    let (id, message, seq) = (send.id, stored.message, stored.seq);
                    self.reply(ServerFrame::SendAck(SendAck { id, message, conversation: conversation.clone(), seq }));
                }
            }
            Err(error) => {
                for send in batch {
                    self.reply_failure(Some(send.id), &error);
                }
            }
        }
    }

    async fn create(&self, create: Create) {
        let mut members: BTreeSet<_> = create.members.into_iter().collect();
        members.insert(self.user.clone());
        let conversation = group_id(&self.user, &self.device, &create.id);
        let members = members.into_iter().collect();
        let wanted = Header { conversation, name: create.name, members, ..Header::default() };
        match self.context.conversations.create(wanted).await {
            Ok(header) => self.reply(conversation_frame(Some(create.id), header)),
            Err(error) => self.reply_failure(Some(create.id), &error),
        }
    }

    /// Sends the user's conversations, the messages after the client's cursors, and online contacts.
    async fn sync(&self, sync: Sync) {
        let headers = match self.context.conversations.of_user(&self.user).await {
            Ok(headers) => headers,
            Err(error) => return self.reply_failure(None, &error),
        };
        let mut contacts = BTreeSet::new();
        let mut budget = SYNC_MESSAGES;
        let mut incomplete = None;
        for header in headers {
            if header.members.len() <= MAX_CONTACT_GROUP {
                contacts.extend(header.members.iter().filter(|member| **member != self.user).cloned());
            }
            let (conversation, last) = (header.conversation.clone(), header.last);
            self.outbox.wait_for_capacity().await;
            self.reply(conversation_frame(None, header));
            let mut cursor = sync.cursors.get(&conversation).copied().unwrap_or(0);
            let mut end = last;
            while cursor < end && budget > 0 {
                let page = match self.context.conversations.read(&conversation, &self.user, cursor).await {
                    Ok(page) => page,
                    Err(error) => return self.reply_failure(None, &error),
                };
                // Messages that some replica still lacks are not readable yet.
                end = page.last;
                if page.records.is_empty() {
                    break;
                }
                for record in page.records.into_iter().take(budget) {
                    budget -= 1;
                    cursor = record.seq;
                    self.outbox.wait_for_capacity().await;
                    let (message, from, seq, body) = (record.message, record.from, record.seq, record.body);
                    self.reply(ServerFrame::Push(Push {
                        message,
                        from,
                        conversation: conversation.clone(),
                        seq,
                        body,
                    }));
                }
            }
            if cursor < end {
                incomplete.get_or_insert(Lagging { conversation, seq: end });
            }
        }
        self.send_online_contacts(contacts).await;
        if let Some(lagging) = incomplete {
            self.reply(ServerFrame::Lagging(lagging));
        }
    }

    async fn send_online_contacts(&self, contacts: BTreeSet<String>) {
        let contacts: Vec<_> = contacts.into_iter().take(SYNC_CONTACTS).collect();
        let entries = self.context.delivery.locate(contacts.clone()).await;
        for (user, entries) in contacts.into_iter().zip(entries) {
            if !entries.is_empty() {
                self.outbox.wait_for_capacity().await;
                self.reply(ServerFrame::Presence(Presence { user, online: true }));
            }
        }
    }

    fn reply_failure(&self, id: Option<String>, error: &ConversationError) {
        let code = if *error == ConversationError::NotFound { code::NOT_FOUND } else { code::UNAVAILABLE };
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
            Self::Send(send) => Some(send.id.clone()),
            Self::Create(create) => Some(create.id.clone()),
            Self::Sync(_) => None,
        }
    }
}

fn conversation_frame(id: Option<String>, header: Header) -> ServerFrame {
    let Header { conversation, name, members, last, .. } = header;
    ServerFrame::Conversation(Conversation { id, conversation, name, members, seq: last })
}

/// The maximum number of waiting requests of one session.
pub(super) const MAX_WAITING: usize = 64;
/// The maximum number of messages that one sync returns; the client syncs again for more.
const SYNC_MESSAGES: usize = 1000;
/// The maximum number of contacts whose presence one sync returns.
const SYNC_CONTACTS: usize = 500;
