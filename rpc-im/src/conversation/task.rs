//! [`Conversation`]: the one task that works on a conversation here, as its home or as its copy.
//!
//! How it becomes the home, and follows another one: `leading.rs`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::{join, try_join_all};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

use super::{Address, HomeError, Message, Promise, Stored, conversations::Shared};
use crate::{
    cluster::peer_link::Letter,
    cluster::view::NodeInfo,
    envelope::{Conversation as Told, Push, ServerFrame},
    identity::SessionId,
    store::{Change, Header, Limits, Record, SentAs, StoreError},
};

/// What a conversation is asked for.
pub(super) enum Command {
    Append(Append),
    Create(Header, Reply<Header>),
    /// Be its home, or say why not; gives the header, whose `committed` says what may be read.
    Lead(Reply<Option<Header>>),
    /// The same, and then it is let go of soon.
    Settle(Reply<()>),
    Promise(u64, Reply<Promise>),
    /// Say whether a home of this term is still listened to.
    Confirm(u64, Reply<()>),
    Copy(Change, Reply<()>),
}

pub(super) struct Append {
    pub(super) to: Address,
    pub(super) messages: Vec<Message>,
    pub(super) reply: Reply<Vec<Stored>>,
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, HomeError>>;

/// The one task that works on a conversation here. What it is asked for happens in order, so nothing of it is ever half-way when
/// the next thing begins.
pub(super) struct Conversation {
    pub(super) name: String,
    pub(super) shared: Arc<Shared>,
    /// What there is of it here, once it was begun.
    pub(super) header: Option<Header>,
    /// Homes of lesser terms are listened to no more.
    pub(super) promised: u64,
    pub(super) leading: Option<Leading>,
    pushes: mpsc::Sender<Pushing>,
    _pusher: JoinSet<()>,
}

/// What it means to be the home.
pub(super) struct Leading {
    /// The upheavals before, and the fingerprint of the view in which this node is the home.
    pub(super) since: (u64, u64),
    pub(super) term: u64,
    pub(super) copies: Vec<NodeInfo>,
}

/// What users asked for meanwhile, and is done as one. Who wrote first has been answered when who reads is.
#[derive(Default)]
struct Batch {
    appends: Vec<Append>,
    readers: Vec<Reply<Option<Header>>>,
}

/// Something for all members.
struct Pushing {
    members: Arc<[String]>,
    letter: Arc<Letter>,
    from: Option<SessionId>,
}

impl Command {
    /// Whether a user waits for it, and may have more to ask for; else it is one of very many, after a node has come or gone.
    fn is_of_users(&self) -> bool {
        matches!(self, Self::Append(_) | Self::Create(..) | Self::Lead(_))
    }
}

impl Batch {
    /// A command and what waits right behind it; the first that is for no batch is given back.
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

impl Conversation {
    /// Works until nobody has asked for anything for a while.
    pub(super) async fn run(name: String, shared: Arc<Shared>, mut commands: mpsc::Receiver<Command>) {
        let (pushes, waiting) = mpsc::channel(MAX_PUSHES);
        let mut pusher = JoinSet::new();
        pusher.spawn(push(Arc::clone(&shared), waiting));
        let header = match shared.store.header(name.clone()).await {
            Ok(header) => header,
            // Whoever asked is told by the reply that is dropped, and asks again.
            Err(error) => return shared.failed(&error),
        };
        let promised = header.as_ref().map_or(0, |header| header.promised);
        let header = header.filter(Header::is_begun);
        let mut this = Self { name, shared, header, promised, leading: None, pushes, _pusher: pusher };
        let (mut kept, mut idle) = (None, BRIEF);
        loop {
            let command = match kept.take() {
                Some(command) => command,
                None => match timeout(idle, commands.recv()).await {
                    Ok(Some(command)) => command,
                    Ok(None) => return,
                    Err(_) if this.shared.forget(&this.name, &commands) => return,
                    Err(_) => continue,
                },
            };
            if command.is_of_users() {
                idle = IDLE;
            }
            match command {
                Command::Append(_) | Command::Lead(_) => {
                    let (batch, other) = Batch::take(command, &mut commands);
                    kept = other;
                    if !batch.appends.is_empty() {
                        this.append(batch.appends).await;
                    }
                    if !batch.readers.is_empty() {
                        this.let_read(batch.readers).await;
                    }
                }
                Command::Create(header, reply) => answer(reply, this.create(header).await),
                Command::Settle(reply) => answer(reply, this.lead().await),
                Command::Promise(term, reply) => answer(reply, this.promise(term).await),
                Command::Confirm(term, reply) => {
                    answer(reply, if term < this.promised { Err(HomeError::Superseded) } else { Ok(()) });
                }
                Command::Copy(change, reply) => answer(reply, this.copy(change).await),
            }
        }
    }

    /// Asks the copies once for all who wait to read. They asked before the copies are asked, so what these say is true for all.
    async fn let_read(&mut self, readers: Vec<Reply<Option<Header>>>) {
        let outcome = self.lead_for_sure().await.map(|()| self.header.clone());
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
            match self.admit(&append) {
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

    /// Whether its senders may write here. The first message of two users begins their conversation.
    fn admit(&mut self, append: &Append) -> Result<(), HomeError> {
        if self.header.is_none() {
            let pair = append.to.pair.clone().ok_or(HomeError::NotFound)?;
            let mut members = pair.to_vec();
            members.dedup();
            let term = self.leading.as_ref().map_or(0, |leading| leading.term);
            let conversation = self.name.clone();
            self.header = Some(Header { conversation, members, term, promised: self.promised, ..Header::default() });
        }
        let members = &self.header.as_ref().expect("it was just made").members;
        let is_member = |message: &Message| members.contains(&message.from);
        if append.messages.iter().all(is_member) { Ok(()) } else { Err(HomeError::NotFound) }
    }

    /// Stores what is not stored yet, here and at the copies; then it is pushed.
    async fn store(&mut self, batch: &[Append]) -> Result<Vec<Stored>, HomeError> {
        let Some(header) = self.header.clone() else { return Ok(Vec::new()) };
        let messages: Vec<_> = batch.iter().flat_map(|append| &append.messages).collect();
        let wanted = messages.iter().map(|message| message.sent_as()).collect();
        let found = self.shared.store.find(self.name.clone(), wanted).await.map_err(|error| self.fails(&error))?;
        let mut new = Vec::<Record>::new();
        let mut records = HashMap::<SentAs, usize>::new();
        let mut stored = Vec::with_capacity(messages.len());
        let mut pushes = Vec::with_capacity(messages.len());
        for (message, found) in messages.into_iter().zip(found) {
            let record = match (found, records.get(&message.sent_as())) {
                // Sent again, perhaps because the answer was lost with a home that had not pushed it yet.
                (Some(found), _) => found,
                (None, Some(place)) => new[*place].clone(),
                (None, None) => {
                    let record = Record {
                        seq: header.last + new.len() as u64 + 1,
                        message: self.shared.ids.next(),
                        from: message.from.clone(),
                        device: message.device.clone(),
                        id: message.id.clone(),
                        body: message.body.clone(),
                    };
                    records.insert(message.sent_as(), new.len());
                    new.push(record.clone());
                    record
                }
            };
            stored.push(Stored { message: record.message, seq: record.seq });
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

    async fn create(&mut self, wanted: Header) -> Result<Header, HomeError> {
        self.lead().await?;
        if let Some(header) = &self.header {
            return Ok(header.clone());
        }
        let term = self.leading.as_ref().map_or(0, |leading| leading.term);
        let Header { conversation, name, members, .. } = wanted;
        let header = Header { conversation, name, members, term, promised: self.promised, ..Header::default() };
        self.write(Change { header: header.clone(), keep: 0, records: Vec::new() }).await?;
        let Header { conversation, name, members, .. } = header.clone();
        let to: Arc<[String]> = members.clone().into();
        let news = ServerFrame::Conversation(Told { id: None, conversation, name, members, seq: 0 });
        self.push(&to, news, None).await;
        Ok(header)
    }

    /// Makes a change here and at the copies at once; it is made once all have it.
    async fn write(&mut self, change: Change) -> Result<(), HomeError> {
        let copies = self.leading.as_ref().map_or(&[][..], |leading| &leading.copies);
        let here = self.shared.store.change(change.clone());
        let there = try_join_all(copies.iter().map(|copy| self.copy_to(copy, change.clone())));
        let (here, there) = join(here, there).await;
        if let Err(error) = here {
            self.leading = None;
            return Err(self.fails(&error));
        }
        self.header = Some(change.header);
        if let Err(error) = there {
            // It is here, and perhaps there; who becomes the home next finds out, and what was not answered is sent again.
            self.leading = None;
            return Err(error);
        }
        let header = self.header.as_mut().expect("it was just set");
        header.committed = header.last;
        Ok(())
    }

    fn frame(&self, record: Record) -> ServerFrame {
        let Record { seq, message, from, body, .. } = record;
        ServerFrame::Push(Push { message, from, conversation: self.name.clone(), seq, body })
    }

    async fn push(&self, members: &Arc<[String]>, frame: ServerFrame, from: Option<SessionId>) {
        let pushing = Pushing { members: Arc::clone(members), letter: Letter::of_frame(frame), from };
        // Its receiver ends with this task.
        let _ = self.pushes.send(pushing).await;
    }

    pub(super) fn fails(&self, error: &StoreError) -> HomeError {
        self.shared.failed(error);
        HomeError::Unavailable("the store of a node fails".to_owned())
    }
}

impl Message {
    fn sent_as(&self) -> SentAs {
        SentAs { from: self.from.clone(), device: self.device.clone(), id: self.id.clone() }
    }
}

/// Pushes what was stored, in order. Apart from the storing, so that it waits for nobody; and what comes meanwhile shares one
/// look at who is where.
async fn push(shared: Arc<Shared>, mut waiting: mpsc::Receiver<Pushing>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, MAX_PUSHES).await > 0 {
        let Some(last) = batch.last() else { continue };
        let members = Arc::clone(&last.members);
        let letters: Vec<_> = batch.drain(..).map(|pushing| (pushing.letter, pushing.from)).collect();
        shared.delivery.send_to_users(&members, &letters).await;
    }
}

fn answer<T>(reply: Reply<T>, outcome: Result<T, HomeError>) {
    // Who waits no more asks again.
    let _ = reply.send(outcome);
}

/// How long a conversation that users have asked for stays in memory after that.
const IDLE: Duration = Duration::from_secs(60);
/// How long one stays that only nodes have asked for.
const BRIEF: Duration = Duration::from_secs(1);
/// Requests of users that are done as one.
const MAX_BATCH: usize = 256;
/// Messages of a conversation that wait to be pushed; then storing waits.
const MAX_PUSHES: usize = 1024;
/// How much of a conversation goes to another node at once.
pub(super) const PAGE: Limits = Limits { records: 256, bytes: 256 << 10 };

#[cfg(test)]
mod tests {
    use super::*;

    fn append() -> Command {
        let to = Address { conversation: "c".to_owned(), pair: None };
        Command::Append(Append { to, messages: Vec::new(), reply: oneshot::channel().0 })
    }

    fn read() -> Command {
        Command::Lead(oneshot::channel().0)
    }

    fn settle() -> Command {
        Command::Settle(oneshot::channel().0)
    }

    /// How many appends and readers are in a batch, what is given back, and how many wait further on.
    fn take(all: Vec<Command>) -> (usize, usize, Option<Command>, usize) {
        let (sender, mut commands) = mpsc::channel(all.len());
        all.into_iter().for_each(|command| assert!(sender.try_send(command).is_ok()));
        let first = commands.try_recv().unwrap();
        let (batch, other) = Batch::take(first, &mut commands);
        (batch.appends.len(), batch.readers.len(), other, commands.len())
    }

    #[test]
    fn all_who_write_and_read_at_the_same_time_are_one_batch() {
        let (appends, readers, other, waiting) = take(vec![read(), append(), read(), append(), read()]);
        assert_eq!((appends, readers, other.is_none(), waiting), (2, 3, true, 0));
    }

    #[test]
    fn what_nodes_ask_for_ends_a_batch_and_is_not_overtaken() {
        let (appends, readers, other, waiting) = take(vec![append(), read(), settle(), read()]);
        assert_eq!((appends, readers, waiting), (1, 1, 1));
        assert!(matches!(other, Some(Command::Settle(_))));
    }

    #[test]
    fn a_batch_has_as_many_as_it_may() {
        let (appends, readers, other, waiting) = take((0..=MAX_BATCH).map(|_| read()).collect());
        assert_eq!((appends, readers, other.is_none(), waiting), (0, MAX_BATCH, true, 1));
        assert_eq!(take((0..MAX_BATCH).map(|_| read()).collect()).3, 0);
    }
}
