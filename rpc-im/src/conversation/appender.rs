//! [`Appender`]: appends messages to conversations, and pushes them to the members.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::join;
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::frames;
use crate::{
    cluster::{
        delivery::{Delivery, Sent},
        message::NodeMessage,
    },
    envelope::ServerFrame,
    identity::SessionId,
    presence::introduce,
    store::{Append, Appended, Audience, ConversationRef, MessageStore, NewMessage, Rejection, StoreError, Stored},
};

/// Appends messages to conversations, and pushes them to the members.
///
/// While one append of a conversation is being stored, further messages for it wait and are stored together, so that a
/// busy conversation needs fewer transactions. The order of a conversation is the store's.
pub(crate) struct Appender {
    store: Arc<dyn MessageStore>,
    delivery: Arc<Delivery>,
    /// The conversations that have a task, with the messages that wait.
    active: Mutex<HashMap<String, VecDeque<Waiting>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

struct Waiting {
    to: ConversationRef,
    messages: Vec<NewMessage>,
    /// The sending session, which does not receive the messages.
    session: SessionId,
    reply: oneshot::Sender<Result<Outcome, StoreError>>,
}

/// Ends the activity of a conversation whose task is cancelled or panics: dropped replies report it to the waiting
/// callers.
struct Activity<'a> {
    appender: &'a Appender,
    conversation: &'a str,
    has_ended: bool,
}

impl Drop for Activity<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.appender.active().remove(self.conversation);
        }
    }
}

/// The result of [`Appender::append`].
pub(crate) struct Outcome {
    pub(crate) incarnation: u64,
    /// The outcome for each message, in order.
    pub(crate) messages: Vec<Result<Stored, Rejection>>,
}

/// Messages to push.
struct Pushes {
    conversation: String,
    audience: Audience,
    messages: Vec<Sent>,
    /// Whether a first message began the conversation of two users.
    is_new_pair: bool,
}

impl Appender {
    pub(crate) fn new(store: Arc<dyn MessageStore>, delivery: Arc<Delivery>, stop: CancellationToken) -> Self {
        Self { store, delivery, active: Mutex::default(), tasks: TaskTracker::new(), stop }
    }

    /// Appends messages of one session to a conversation; returns once they are stored.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the messages may be stored.
    pub(crate) async fn append(
        self: &Arc<Self>,
        to: ConversationRef,
        messages: Vec<NewMessage>,
        session: SessionId,
    ) -> Result<Outcome, StoreError> {
        let (reply, outcome) = oneshot::channel();
        self.queue(Waiting { to, messages, session, reply })?;
        let stopped = |_| Err(StoreError::Unavailable("the node is shutting down".to_owned()));
        outcome.await.unwrap_or_else(stopped)
    }

    /// Waits until all queued messages are stored and passed on.
    pub(crate) async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn queue(self: &Arc<Self>, waiting: Waiting) -> Result<(), StoreError> {
        if self.stop.is_cancelled() {
            return Err(StoreError::Unavailable("the node is shutting down".to_owned()));
        }
        let mut active = self.active();
        let is_full = active.len() >= MAX_ACTIVE;
        let conversation = waiting.to.conversation.clone();
        match active.get_mut(&conversation) {
            Some(queue) if queue.len() >= MAX_WAITING => {
                let message = format!("{MAX_WAITING} requests wait for the conversation");
                return Err(StoreError::Unavailable(message));
            }
            Some(queue) => queue.push_back(waiting),
            None if is_full => {
                return Err(StoreError::Unavailable(format!("{MAX_ACTIVE} conversations have waiting requests")));
            }
            None => {
                active.insert(conversation.clone(), VecDeque::from([waiting]));
                let (appender, stop) = (Arc::clone(self), self.stop.clone());
                self.tasks.spawn(async move { stop.run_until_cancelled(appender.run(&conversation)).await });
            }
        }
        Ok(())
    }

    /// Stores waiting messages of a conversation until none waits. Each batch is pushed while the next one is stored.
    async fn run(&self, conversation: &str) {
        let mut activity = Activity { appender: self, conversation, has_ended: false };
        let mut pushes = None;
        loop {
            let batch = self.next_batch(conversation, pushes.is_none());
            if batch.is_empty() && pushes.is_none() {
                activity.has_ended = true;
                return;
            }
            (_, pushes) = join(self.push(pushes.take()), self.store(conversation, batch)).await;
        }
    }

    /// Takes waiting messages; ends the conversation's activity if there are none and `may_end` is set.
    fn next_batch(&self, conversation: &str, may_end: bool) -> Vec<Waiting> {
        let mut active = self.active();
        let Some(queue) = active.get_mut(conversation) else { return Vec::new() };
        let (mut batch, mut messages, mut bytes) = (Vec::new(), 0, 0);
        while let Some(next) = queue.front() {
            messages += next.messages.len();
            bytes += next.messages.iter().map(|message| message.body.len()).sum::<usize>();
            if (messages > MAX_BATCH || bytes > MAX_BATCH_BYTES) && !batch.is_empty() {
                break;
            }
            batch.extend(queue.pop_front());
        }
        if batch.is_empty() && may_end {
            active.remove(conversation);
        }
        batch
    }

    async fn store(&self, conversation: &str, batch: Vec<Waiting>) -> Option<Pushes> {
        // A sender may name the conversation of two users by its id alone, with which it cannot begin.
        let names_pair = |waiting: &&Waiting| waiting.to.pair.is_some();
        let to = batch.iter().find(names_pair).or(batch.first())?.to.clone();
        let is_pair = to.pair.is_some();
        let messages: Vec<_> = batch.iter().flat_map(|waiting| waiting.messages.iter().cloned()).collect();
        match self.store.append(Append { to, messages }).await {
            Ok(Appended { incarnation, audience, messages: outcomes }) => {
                let mut pushes = Vec::with_capacity(outcomes.len());
                let is_first = |stored: &Result<Stored, Rejection>| matches!(stored, Ok(stored) if stored.seq == 1);
                let is_new_pair = is_pair && outcomes.iter().any(is_first);
                let mut outcomes = outcomes.into_iter();
                for waiting in batch {
                    let messages: Vec<_> = outcomes.by_ref().take(waiting.messages.len()).collect();
                    for (message, outcome) in waiting.messages.iter().zip(&messages) {
                        let Ok(stored) = outcome else { continue };
                        let push = if stored.repeated {
                            // A repeated message may differ from the stored one, and the first one was perhaps not
                            // pushed: the members read it from the store.
                            frames::lagging(conversation, stored.seq)
                        } else {
                            let push = frames::push_of_new(conversation, incarnation, message, *stored);
                            NodeMessage::frame(ServerFrame::Push(push))
                        };
                        pushes.push((push, Some(waiting.session)));
                    }
                    // Ignore a session that has ended.
                    let _ = waiting.reply.send(Ok(Outcome { incarnation, messages }));
                }
                Some(Pushes { conversation: conversation.to_owned(), audience, messages: pushes, is_new_pair })
            }
            Err(error) => {
                for waiting in batch {
                    let _ = waiting.reply.send(Err(error.clone()));
                }
                None
            }
        }
    }

    async fn push(&self, pushes: Option<Pushes>) {
        if let Some(Pushes { conversation, audience, messages, is_new_pair }) = pushes {
            self.delivery.send_to_members(&conversation, &audience, &messages).await;
            if is_new_pair {
                introduce(&self.delivery, &audience.members, &audience.members).await;
            }
        }
    }

    fn active(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Waiting>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The maximum number of requests that wait for one conversation.
const MAX_WAITING: usize = 256;
/// The maximum number of conversations with waiting requests.
const MAX_ACTIVE: usize = 100_000;
/// The maximum number of messages that are stored together, unless one request has more.
const MAX_BATCH: usize = 256;
/// The maximum number of bytes of the messages that are stored together, unless one request has more: 1 MiB.
const MAX_BATCH_BYTES: usize = 1 << 20;
