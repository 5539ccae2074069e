//! [`ConversationTask`]: the single task of a conversation on this node, as leader or as replica.
//!
//! The election of a leader and the replication to other nodes are in `leadership`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::{join, try_join_all};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{
    command::{Append, Command, Reply},
    context::ConversationContext,
    error::ConversationError,
    rpc::{NewMessage, StoredMessage},
};
use crate::{
    cluster::{message::NodeMessage, view::NodeInfo},
    envelope::{Conversation as ConversationFrame, Push, ServerFrame},
    identity::SessionId,
    store::{Change, Header, Record, SentAs, StoreError},
};

/// The single task of a conversation on this node.
///
/// It executes commands one after the other, so no command observes an incomplete change of another one.
pub(super) struct ConversationTask {
    pub(super) name: String,
    pub(super) context: Arc<ConversationContext>,
    /// The header of this node's replica, once the conversation exists.
    pub(super) header: Option<Header>,
    /// The lowest term of a leader that this node follows.
    pub(super) promised: u64,
    pub(super) leadership: Option<Leadership>,
    pushes: mpsc::Sender<MemberPush>,
    _pusher: JoinSet<()>,
}

/// The state of a leader.
pub(super) struct Leadership {
    /// The topology version and the view's fingerprint for which this node leads.
    pub(super) valid_for: (u64, u64),
    pub(super) term: u64,
    pub(super) replicas: Vec<NodeInfo>,
}

/// Commands of users that are executed together, first the appends, then the reads.
#[derive(Default)]
struct Batch {
    appends: Vec<Append>,
    readers: Vec<Reply<Option<Header>>>,
}

/// A frame for all members.
struct MemberPush {
    members: Arc<[String]>,
    message: Arc<NodeMessage>,
    from: Option<SessionId>,
}

impl Batch {
    /// Takes a command and the ones waiting behind it; returns the first command outside the batch.
    fn take(first: Command, commands: &mut mpsc::Receiver<Command>) -> (Self, Option<Command>) {
        let (mut batch, mut next) = (Self::default(), Some(first));
        while let Some(command) = next {
            match command {
                Command::Append(append) => batch.appends.push(append),
                Command::Lead(reader) => batch.readers.push(reader),
                other => return (batch, Some(other)),
            }
            let is_full = batch.appends.len() + batch.readers.len() == MAX_BATCH;
            next = if is_full { None } else { commands.try_recv().ok() };
        }
        (batch, None)
    }
}

impl ConversationTask {
    /// Executes commands until none has arrived for a while.
    pub(super) async fn run(name: String, context: Arc<ConversationContext>, mut commands: mpsc::Receiver<Command>) {
        let (pushes, waiting) = mpsc::channel(MAX_PUSHES);
        let mut pusher = JoinSet::new();
        pusher.spawn(push_to_members(Arc::clone(&context), waiting));
        let header = match context.store.header(name.clone()).await {
            Ok(header) => header,
            Err(error) => {
                // Dropping the commands drops their replies, after which the callers retry.
                context.store_failed(&error);
                return;
            }
        };
        let promised = header.as_ref().map_or(0, |header| header.promised);
        let header = header.filter(Header::is_begun);
        let mut task = Self { name, context, header, promised, leadership: None, pushes, _pusher: pusher };
        let (mut kept, mut idle_time) = (None, NODE_IDLE_TIME);
        loop {
            let command = match kept.take() {
                Some(command) => command,
                None => match timeout(idle_time, commands.recv()).await {
                    Ok(Some(command)) => command,
                    Ok(None) => return,
                    Err(_) if task.context.remove_idle(&task.name, &commands) => return,
                    Err(_) => continue,
                },
            };
            if command.is_from_user() {
                idle_time = USER_IDLE_TIME;
            }
            match command {
                Command::Append(_) | Command::Lead(_) => {
                    let (batch, other) = Batch::take(command, &mut commands);
                    kept = other;
                    if !batch.appends.is_empty() {
                        task.append(batch.appends).await;
                    }
                    if !batch.readers.is_empty() {
                        task.answer_readers(batch.readers).await;
                    }
                }
                Command::Create(header, reply) => answer(reply, task.create(header).await),
                Command::Settle(reply) => answer(reply, task.lead().await),
                Command::Promise(term, reply) => answer(reply, task.promise(term).await),
                Command::Confirm(term, reply) => {
                    answer(reply, if term < task.promised { Err(ConversationError::Superseded) } else { Ok(()) });
                }
                Command::Replicate(change, reply) => answer(reply, task.apply(change).await),
            }
        }
    }

    /// Confirms the leadership once for all readers.
    ///
    /// All readers arrived before the replicas confirm it, so the confirmation is valid for all of them.
    async fn answer_readers(&mut self, readers: Vec<Reply<Option<Header>>>) {
        let outcome = self.lead_confirmed().await.map(|()| self.header.clone());
        readers.into_iter().for_each(|reply| answer(reply, outcome.clone()));
    }

    async fn append(&mut self, batch: Vec<Append>) {
        if let Err(error) = self.lead().await {
            for append in batch {
                answer(append.reply, Err(error.clone()));
            }
            return;
        }
        let mut accepted = Vec::new();
        for append in batch {
            match self.authorize(&append) {
                Ok(()) => accepted.push(append),
                Err(error) => answer(append.reply, Err(error)),
            }
        }
        match self.store(&accepted).await {
            Ok(stored) => {
                let mut stored = stored.into_iter();
                for append in accepted {
                    let of_append = stored.by_ref().take(append.messages.len()).collect();
                    answer(append.reply, Ok(of_append));
                }
            }
            Err(error) => {
                for append in accepted {
                    answer(append.reply, Err(error.clone()));
                }
            }
        }
    }

    /// Checks that the senders are members. The first message between two users begins their conversation.
    fn authorize(&mut self, append: &Append) -> Result<(), ConversationError> {
        if self.header.is_none() {
            let pair = append.to.pair.clone().ok_or(ConversationError::NotFound)?;
            let mut members = pair.to_vec();
            members.dedup();
            let term = self.leadership.as_ref().map_or(0, |leadership| leadership.term);
            let conversation = self.name.clone();
            self.header = Some(Header { conversation, members, term, promised: self.promised, ..Header::default() });
        }
        let members = &self.header.as_ref().expect("the header was just set").members;
        let is_member = |message: &NewMessage| members.contains(&message.from);
        if append.messages.iter().all(is_member) { Ok(()) } else { Err(ConversationError::NotFound) }
    }

    /// Stores new messages here and at the replicas, then pushes all messages of the batch to the members.
    async fn store(&mut self, batch: &[Append]) -> Result<Vec<StoredMessage>, ConversationError> {
        let Some(header) = self.header.clone() else { return Ok(Vec::new()) };
        let messages: Vec<_> = batch.iter().flat_map(|append| &append.messages).collect();
        let wanted = messages.iter().map(|message| message.sent_as()).collect();
        let found =
            self.context.store.find(self.name.clone(), wanted).await.map_err(|error| self.store_failed(&error))?;
        let mut new = Vec::<Record>::new();
        let mut indices = HashMap::<SentAs, usize>::new();
        let mut stored = Vec::with_capacity(messages.len());
        let mut pushes = Vec::with_capacity(messages.len());
        for (message, found) in messages.into_iter().zip(found) {
            let record = match (found, indices.get(&message.sent_as())) {
                // Sent again, perhaps because an earlier leader stored the message and neither answered nor pushed it.
                (Some(found), _) => found,
                (None, Some(index)) => new[*index].clone(),
                (None, None) => {
                    let record = Record {
                        seq: header.last + new.len() as u64 + 1,
                        message: self.context.ids.next(),
                        from: message.from.clone(),
                        device: message.device.clone(),
                        id: message.id.clone(),
                        body: message.body.clone(),
                    };
                    indices.insert(message.sent_as(), new.len());
                    new.push(record.clone());
                    record
                }
            };
            stored.push(StoredMessage { message: record.message, seq: record.seq });
            pushes.push((record, message.session));
        }
        if !new.is_empty() {
            let last = header.last + new.len() as u64;
            let change = Change { header: Header { last, ..header.clone() }, keep: header.last, records: new };
            self.write(change).await?;
        }
        let members: Arc<[String]> = header.members.into();
        for (record, session) in pushes {
            self.push(&members, self.frame(record), Some(session)).await;
        }
        Ok(stored)
    }

    async fn create(&mut self, wanted: Header) -> Result<Header, ConversationError> {
        self.lead().await?;
        if let Some(header) = &self.header {
            return Ok(header.clone());
        }
        let term = self.leadership.as_ref().map_or(0, |leadership| leadership.term);
        let Header { conversation, name, members, .. } = wanted;
        let header = Header { conversation, name, members, term, promised: self.promised, ..Header::default() };
        self.write(Change { header: header.clone(), keep: 0, records: Vec::new() }).await?;
        let Header { conversation, name, members, .. } = header.clone();
        let to: Arc<[String]> = members.clone().into();
        let frame = ConversationFrame { id: None, conversation, name, members, seq: 0 };
        self.push(&to, ServerFrame::Conversation(frame), None).await;
        Ok(header)
    }

    /// Applies a change here and at the replicas concurrently.
    ///
    /// The change is committed once all of them have applied it.
    async fn write(&mut self, change: Change) -> Result<(), ConversationError> {
        let replicas = self.leadership.as_ref().map_or(&[][..], |leadership| &leadership.replicas);
        let here = self.context.store.change(change.clone());
        let there = try_join_all(replicas.iter().map(|replica| self.replicate_to(replica, change.clone())));
        let (here, there) = join(here, there).await;
        if let Err(error) = here {
            self.leadership = None;
            return Err(self.store_failed(&error));
        }
        self.header = Some(change.header);
        if let Err(error) = there {
            // The change is stored here, and perhaps at some replicas. The next leader resolves this, and the sender
            // retries.
            self.leadership = None;
            return Err(error);
        }
        let header = self.header.as_mut().expect("the header was just set");
        header.committed = header.last;
        Ok(())
    }

    fn frame(&self, record: Record) -> ServerFrame {
        let Record { seq, message, from, body, .. } = record;
        ServerFrame::Push(Push { message, from, conversation: self.name.clone(), seq, body })
    }

    async fn push(&self, members: &Arc<[String]>, frame: ServerFrame, from: Option<SessionId>) {
        let push = MemberPush { members: Arc::clone(members), message: NodeMessage::frame(frame), from };
        // The receiver ends with this task.
        let _ = self.pushes.send(push).await;
    }

    pub(super) fn store_failed(&self, error: &StoreError) -> ConversationError {
        self.context.store_failed(error)
    }
}

impl NewMessage {
    fn sent_as(&self) -> SentAs {
        SentAs { from: self.from.clone(), device: self.device.clone(), id: self.id.clone() }
    }
}

/// Pushes stored messages in order.
///
/// It runs in a task of its own, so that storing does not wait for lookups and waiting messages share one lookup.
async fn push_to_members(context: Arc<ConversationContext>, mut waiting: mpsc::Receiver<MemberPush>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, MAX_PUSHES).await > 0 {
        let Some(last) = batch.last() else { continue };
        let members = Arc::clone(&last.members);
        let messages: Vec<_> = batch.drain(..).map(|push| (push.message, push.from)).collect();
        context.delivery.send_to_users(&members, &messages).await;
    }
}

fn answer<T>(reply: Reply<T>, outcome: Result<T, ConversationError>) {
    // A caller that has stopped waiting retries.
    let _ = reply.send(outcome);
}

/// The time for which a task stays after the last command of a user.
const USER_IDLE_TIME: Duration = Duration::from_secs(60);
/// The time for which a task stays that has had commands of nodes only.
const NODE_IDLE_TIME: Duration = Duration::from_secs(1);
/// The maximum number of commands of users that are executed together.
const MAX_BATCH: usize = 256;
/// The maximum number of messages that wait to be pushed; storing waits above it.
const MAX_PUSHES: usize = 1024;

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::conversation::ConversationRef;

    fn append() -> Command {
        let to = ConversationRef { conversation: "c".to_owned(), pair: None };
        Command::Append(Append { to, messages: Vec::new(), reply: oneshot::channel().0 })
    }

    fn read() -> Command {
        Command::Lead(oneshot::channel().0)
    }

    fn settle() -> Command {
        Command::Settle(oneshot::channel().0)
    }

    /// Returns the batch's appends and readers, the returned command, and the commands left in the channel.
    fn take(all: Vec<Command>) -> (usize, usize, Option<Command>, usize) {
        let (sender, mut commands) = mpsc::channel(all.len());
        all.into_iter().for_each(|command| assert!(sender.try_send(command).is_ok()));
        let first = commands.try_recv().unwrap();
        let (batch, other) = Batch::take(first, &mut commands);
        (batch.appends.len(), batch.readers.len(), other, commands.len())
    }

    #[test]
    fn waiting_appends_and_reads_form_one_batch() {
        let (appends, readers, other, waiting) = take(vec![read(), append(), read(), append(), read()]);
        assert_eq!((appends, readers, other.is_none(), waiting), (2, 3, true, 0));
    }

    #[test]
    fn a_command_of_a_node_ends_the_batch() {
        let (appends, readers, other, waiting) = take(vec![append(), read(), settle(), read()]);
        assert_eq!((appends, readers, waiting), (1, 1, 1));
        assert!(matches!(other, Some(Command::Settle(_))));
    }

    #[test]
    fn a_batch_stops_at_its_limit() {
        let (appends, readers, other, waiting) = take((0..=MAX_BATCH).map(|_| read()).collect());
        assert_eq!((appends, readers, other.is_none(), waiting), (0, MAX_BATCH, true, 1));
        assert_eq!(take((0..MAX_BATCH).map(|_| read()).collect()).3, 0);
    }
}
