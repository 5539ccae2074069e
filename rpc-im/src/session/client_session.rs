//! [`Session`]: one login of one device, and what its client asks for.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    conversation::{Address, HomeError, Message, created},
    envelope::{
        ClientFrame, Conversation, Create, Lagging, Pong, Presence, Push, Recipient, Send, SendAck, ServerFrame, Sync,
        code,
    },
    identity::SessionId,
    node::Parts,
    presence::SMALL,
    session::outbox::Outbox,
    store::Header,
};

/// One login of one device. What its client says goes into [`handle`](Self::handle), what it is told comes out of its
/// [`Outbound`](crate::Outbound).
///
/// # Drop
///
/// Dropped, the session is over: the directory forgets it, unless a newer login of the device has taken its place.
pub struct Session(Arc<Asking>);

/// Who asks, and what it has asked for and not got yet.
struct Asking {
    user: String,
    device: String,
    id: SessionId,
    outbox: Arc<Outbox>,
    parts: Arc<Parts>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    is_served: bool,
}

enum Request {
    Send(Send),
    Create(Create),
    Sync(Sync),
}

impl Session {
    pub(crate) fn new((user, device): (String, String), id: SessionId, outbox: Arc<Outbox>, parts: Arc<Parts>) -> Self {
        Self(Arc::new(Asking { user, device, id, outbox, parts, waiting: Mutex::default() }))
    }

    /// Which login it is.
    pub fn id(&self) -> SessionId {
        self.0.id
    }

    /// Whose it is.
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// Takes what the client says. Answers go to the session's [`Outbound`](crate::Outbound), in the order of the requests; at most
    /// [`MAX_WAITING`](Self::MAX_WAITING) requests wait, more are refused.
    pub fn handle(&self, frame: ClientFrame) {
        let request = match frame {
            ClientFrame::Send(send) => Request::Send(send),
            ClientFrame::Create(create) => Request::Create(create),
            ClientFrame::Sync(sync) => Request::Sync(sync),
            ClientFrame::Ping(_) => return self.0.say(ServerFrame::Pong(Pong {})),
            // The store has all messages, whoever has got them; what a device has is in its cursors.
            ClientFrame::Ack(_) | ClientFrame::Pong(_) => return,
            ClientFrame::Auth(_) => {
                return self.0.say(ServerFrame::error(None, code::BAD_FRAME, "this session is authenticated already"));
            }
        };
        let mut waiting = self.0.waiting();
        if waiting.requests.len() >= Self::MAX_WAITING {
            drop(waiting);
            return self.0.fail(
                request.id(),
                code::TOO_MANY,
                "too many requests wait; send this one again in a second",
            );
        }
        waiting.requests.push_back(request);
        if !waiting.is_served {
            waiting.is_served = true;
            drop(waiting);
            self.0.parts.tasks.spawn(Arc::clone(&self.0).serve());
        }
    }

    /// Requests that wait at most.
    pub const MAX_WAITING: usize = 64;
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(local) = self.0.parts.sessions.remove(self.0.id) else { return };
        local.close(None);
        let parts = Arc::clone(&self.0.parts);
        self.0.parts.tasks.spawn(async move {
            let user = local.entry.user.clone();
            parts.directory.release(local.entry.clone()).await;
            parts.presence.announce(&user).await;
        });
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("user", &self.0.user).field("id", &self.0.id).finish_non_exhaustive()
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

impl Asking {
    /// Does what waits, one after the other, until nothing does.
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
        let mut waiting = self.waiting();
        let next = waiting.requests.pop_front();
        // Under the same lock as the look: a request that comes now starts anew.
        waiting.is_served = next.is_some() && !self.outbox.is_closed();
        next.filter(|_| waiting.is_served)
    }

    /// Stores a message, and those that follow it to the same place: in one go they keep their order.
    async fn send(&self, first: Send) {
        let to = first.to.clone();
        let mut batch = vec![first];
        {
            let mut waiting = self.waiting();
            while matches!(waiting.requests.front(), Some(Request::Send(send)) if send.to == to)
                && let Some(Request::Send(send)) = waiting.requests.pop_front()
            {
                batch.push(send);
            }
        }
        let address = match to {
            Some(Recipient::User(user)) => Address::of_pair(&self.user, &user),
            Some(Recipient::Conversation(conversation)) => Address::of_conversation(conversation),
            None => return self.fail(Some(batch.remove(0).id), code::BAD_FRAME, "to is missing"),
        };
        let conversation = address.conversation.clone();
        let message = |send: &Send| Message {
            from: self.user.clone(),
            device: self.device.clone(),
            session: self.id,
            id: send.id.clone(),
            body: send.body.clone(),
        };
        match self.parts.homes.append(address, batch.iter().map(message).collect()).await {
            Ok(stored) => {
                for (send, stored) in batch.into_iter().zip(stored) {
                    let (id, message, seq) = (send.id, stored.message, stored.seq);
                    self.say(ServerFrame::SendAck(SendAck { id, message, conversation: conversation.clone(), seq }));
                }
            }
            Err(error) => {
                for send in batch {
                    self.refuse(Some(send.id), &error);
                }
            }
        }
    }

    async fn create(&self, create: Create) {
        let mut members: BTreeSet<_> = create.members.into_iter().collect();
        members.insert(self.user.clone());
        let conversation = created(&self.user, &self.device, &create.id);
        let members = members.into_iter().collect();
        let wanted = Header { conversation, name: create.name, members, ..Header::default() };
        match self.parts.homes.create(wanted).await {
            Ok(header) => self.say(conversation_frame(Some(create.id), header)),
            Err(error) => self.refuse(Some(create.id), &error),
        }
    }

    /// Says all conversations of the user, who of them is there, and what the client lacks of each.
    async fn sync(&self, sync: Sync) {
        let conversations = match self.parts.homes.conversations(&self.user).await {
            Ok(conversations) => conversations,
            Err(error) => return self.refuse(None, &error),
        };
        let mut friends = BTreeSet::new();
        let mut budget = SYNC_MESSAGES;
        let mut left = None;
        for header in conversations {
            if header.members.len() <= SMALL {
                friends.extend(header.members.iter().filter(|member| **member != self.user).cloned());
            }
            let (conversation, last) = (header.conversation.clone(), header.last);
            self.outbox.room().await;
            self.say(conversation_frame(None, header));
            let mut cursor = sync.cursors.get(&conversation).copied().unwrap_or(0);
            let mut end = last;
            while cursor < end && budget > 0 {
                let page = match self.parts.homes.read(&conversation, &self.user, cursor).await {
                    Ok(page) => page,
                    Err(error) => return self.refuse(None, &error),
                };
                // What is stored in one place and not yet in all is not there to be read.
                end = page.last;
                if page.records.is_empty() {
                    break;
                }
                for record in page.records.into_iter().take(budget) {
                    budget -= 1;
                    cursor = record.seq;
                    self.outbox.room().await;
                    let (message, from, seq, body) = (record.message, record.from, record.seq, record.body);
                    self.say(ServerFrame::Push(Push { message, from, conversation: conversation.clone(), seq, body }));
                }
            }
            if cursor < end {
                left.get_or_insert(Lagging { conversation, seq: end });
            }
        }
        self.say_who_is_there(friends).await;
        if let Some(lagging) = left {
            self.say(ServerFrame::Lagging(lagging));
        }
    }

    async fn say_who_is_there(&self, friends: BTreeSet<String>) {
        let friends: Vec<_> = friends.into_iter().take(SYNC_FRIENDS).collect();
        let entries = self.parts.delivery.locate(friends.clone()).await;
        for (user, entries) in friends.into_iter().zip(entries) {
            if !entries.is_empty() {
                self.outbox.room().await;
                self.say(ServerFrame::Presence(Presence { user, online: true }));
            }
        }
    }

    fn refuse(&self, id: Option<String>, error: &HomeError) {
        let code = if *error == HomeError::NotFound { code::NOT_FOUND } else { code::UNAVAILABLE };
        self.fail(id, code, error.to_string());
    }

    fn fail(&self, id: Option<String>, code: &str, message: impl Into<String>) {
        self.say(ServerFrame::error(id, code, message));
    }

    fn say(&self, frame: ServerFrame) {
        // One that is over has nobody to be told.
        let _ = self.outbox.push(Arc::new(frame));
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn conversation_frame(id: Option<String>, header: Header) -> ServerFrame {
    let Header { conversation, name, members, last, .. } = header;
    ServerFrame::Conversation(Conversation { id, conversation, name, members, seq: last })
}

/// Messages that one sync gives; then the client asks again.
const SYNC_MESSAGES: usize = 1000;
/// Users of whom one sync says that they are there.
const SYNC_FRIENDS: usize = 500;
