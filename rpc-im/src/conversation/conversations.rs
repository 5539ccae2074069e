//! [`Homes`]: finds a conversation's home and asks it, wherever it is; and the conversations that are worked on here.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use dashmap::DashMap;
use futures_util::{StreamExt as _, future::join_all, stream};
use rpc_core::{CallError, Error};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info};

use super::{
    Address, Home, HomeClient, HomeError, Message, Page, Promise, Stored,
    task::{Append, Command, Conversation, PAGE, Reply},
};
use crate::{
    cluster::delivery::Delivery,
    cluster::hops::Hops,
    cluster::local_node::Me,
    cluster::router::NodeRouter,
    cluster::view::NodeInfo,
    identity::Epoch,
    snowflake::Snowflake,
    store::{Change, Header, Record, Store, StoreError},
};

/// The conversations that are worked on here, and what they need.
pub(crate) struct Shared {
    pub(crate) me: Arc<Me>,
    pub(crate) router: Arc<NodeRouter>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) ids: Arc<Snowflake>,
    /// On how many nodes each conversation is, if there are as many.
    pub(crate) copies: usize,
    pub(crate) working: Working,
}

/// The conversations that are worked on here: who asks one of them, and its task.
#[derive(Default)]
pub(crate) struct Working {
    active: DashMap<String, mpsc::Sender<Command>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Finds a conversation's home and asks it, wherever it is.
pub(crate) struct Homes(pub(crate) Arc<Shared>);

/// The end of [`Home`] that other nodes call.
pub(crate) struct HomeOf(pub(crate) Arc<Homes>);

impl Shared {
    pub(super) fn failed(&self, failure: &StoreError) {
        error!(me = %self.me.key(), %failure, "a conversation could not be stored or read");
    }

    /// Takes a conversation out that nobody asks for; false when somebody just did.
    pub(super) fn forget(&self, name: &str, commands: &mpsc::Receiver<Command>) -> bool {
        // Under the entry's lock nobody gets a sender; when the table has the only one, nobody is about to send.
        self.working.active.remove_if(name, |_, sender| sender.strong_count() == 1 && commands.is_empty()).is_some()
    }
}

impl Working {
    /// Ends all work, wherever it is: what was not answered was not promised.
    pub(crate) fn stop(&self) {
        self.tasks.close();
        self.stop.cancel();
    }

    /// Waits until the work that was [`stop`](Self::stop)ped has let go of the store.
    pub(crate) async fn stopped(&self) {
        self.tasks.wait().await;
    }
}

impl Homes {
    /// Stores messages; answers once they are safe.
    pub(crate) async fn append(&self, to: Address, messages: Vec<Message>) -> Result<Vec<Stored>, HomeError> {
        search(|| self.append_at_home(Hops::NONE, to.clone(), messages.clone())).await
    }

    /// Begins a conversation, unless it is there.
    pub(crate) async fn create(&self, header: Header) -> Result<Header, HomeError> {
        search(|| self.create_at_home(Hops::NONE, header.clone())).await
    }

    /// A page of messages for one of a conversation's members.
    pub(crate) async fn read(&self, conversation: &str, user: &str, after: u64) -> Result<Page, HomeError> {
        search(|| self.read_at_home(Hops::NONE, conversation.to_owned(), user.to_owned(), after)).await
    }

    /// All conversations of a user, at most [`MAX_HELD`], as the nodes that have something of them know them.
    pub(crate) async fn conversations(&self, user: &str) -> Result<Vec<Header>, HomeError> {
        let view = self.0.router.sound_view().ok_or_else(cut_off)?;
        let held = join_all(view.nodes.iter().map(|node| self.held(node, user)));
        let mut newest = std::collections::BTreeMap::<String, Header>::new();
        for headers in held.await {
            for header in headers? {
                let known = newest.entry(header.conversation.clone()).or_insert_with(|| header.clone());
                if (known.term, known.last) < (header.term, header.last) {
                    *known = header;
                }
            }
        }
        Ok(newest.into_values().collect())
    }

    /// After each change of the view, becomes the home of what this node is the home of now, for as long as it is polled: so
    /// that there are as many copies again as there should be.
    pub(crate) async fn run(&self) {
        let mut views = self.0.router.watch();
        let mut settled = None;
        loop {
            let view = Arc::clone(&views.borrow_and_update());
            let upheavals = self.0.router.upheavals();
            if settled != Some((upheavals, view.fingerprint)) && self.0.router.sound_view().is_some() {
                match self.settle(view.nodes.len()).await {
                    Ok(conversations) => {
                        settled = Some((upheavals, view.fingerprint));
                        info!(me = %self.0.me.key(), conversations, "this node's conversations have their copies");
                    }
                    Err(error) => debug!(me = %self.0.me.key(), %error, "not all conversations have their copies yet"),
                }
            }
            tokio::select! {
                // Either may be dropped: the next round looks at everything.
                _ = views.changed() => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    async fn append_at_home(&self, hops: Hops, to: Address, messages: Vec<Message>) -> Result<Vec<Stored>, HomeError> {
        match self.home(hops, &to.conversation)? {
            None => self.append_here(to, messages).await,
            Some((home, hops)) => outcome(self.client().append(hops, to, messages).address(home).await),
        }
    }

    async fn create_at_home(&self, hops: Hops, header: Header) -> Result<Header, HomeError> {
        match self.home(hops, &header.conversation)? {
            None => self.create_here(header).await,
            Some((home, hops)) => outcome(self.client().create(hops, header).address(home).await),
        }
    }

    async fn read_at_home(&self, hops: Hops, name: String, user: String, after: u64) -> Result<Page, HomeError> {
        match self.home(hops, &name)? {
            None => self.read_here(name, &user, after).await,
            Some((home, hops)) => outcome(self.client().read(hops, name, user, after).address(home).await),
        }
    }

    /// All that a node has, page by page.
    async fn held(&self, node: &NodeInfo, user: &str) -> Result<Vec<Header>, HomeError> {
        let mut held = Vec::<Header>::new();
        while held.len() < MAX_HELD {
            let after = held.last().map_or_else(String::new, |last| last.conversation.clone());
            let page = if node.key == self.0.me.key() {
                self.held_here(user, after).await?
            } else {
                outcome(self.client().held(user.to_owned(), after).address(node.address).await)?
            };
            if page.is_empty() {
                break;
            }
            held.extend(page);
        }
        Ok(held)
    }

    async fn settle(&self, nodes: usize) -> Result<usize, HomeError> {
        self.0.store.set_nodes(nodes as u64).await.map_err(|error| self.fails(&error))?;
        let (mut after, mut settled) = (String::new(), 0);
        loop {
            let page = self.0.store.page(after, PAGE.records).await.map_err(|error| self.fails(&error))?;
            let Some(last) = page.last() else { return Ok(settled) };
            after = last.conversation.clone();
            let view = self.0.router.view();
            let ours = page
                .into_iter()
                .filter(|header| header.is_begun() && view.owner(&header.conversation).key == self.0.me.key());
            let leading = stream::iter(ours).map(async |header| self.ask(&header.conversation, Command::Settle).await);
            let mut leading = std::pin::pin!(leading.buffer_unordered(AT_ONCE));
            while let Some(outcome) = leading.next().await {
                match outcome {
                    Ok(_) => settled += 1,
                    // The view has changed; then there is another round.
                    Err(HomeError::NotHome) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Where a conversation's home is, and how it is to be asked; `None` for this node.
    fn home(&self, hops: Hops, conversation: &str) -> Result<Option<(SocketAddr, Hops)>, HomeError> {
        let view = self.0.router.sound_view().ok_or_else(cut_off)?;
        let home = view.owner(conversation);
        if home.key == self.0.me.key() {
            return Ok(None);
        }
        hops.next().map(|hops| Some((home.address, hops))).ok_or(HomeError::NotHome)
    }

    async fn append_here(&self, to: Address, messages: Vec<Message>) -> Result<Vec<Stored>, HomeError> {
        if !to.is_sound() {
            return Err(HomeError::NotFound);
        }
        let name = to.conversation.clone();
        self.ask(&name, |reply| Command::Append(Append { to, messages, reply })).await
    }

    async fn create_here(&self, header: Header) -> Result<Header, HomeError> {
        let name = header.conversation.clone();
        self.ask(&name, |reply| Command::Create(header, reply)).await
    }

    async fn read_here(&self, name: String, user: &str, after: u64) -> Result<Page, HomeError> {
        let header = self.ask(&name, Command::Lead).await?.ok_or(HomeError::NotFound)?;
        if !header.members.iter().any(|member| member == user) {
            return Err(HomeError::NotFound);
        }
        // What not all copies have yet may still become another message.
        let last = header.committed;
        let records = self.0.store.records(name, after, last, PAGE).await.map_err(|error| self.fails(&error))?;
        Ok(Page { records, last })
    }

    async fn held_here(&self, user: &str, after: String) -> Result<Vec<Header>, HomeError> {
        self.0.store.of_user(user.to_owned(), after, PAGE).await.map_err(|error| self.fails(&error))
    }

    /// Asks the task that works on a conversation here; it is started if there is none.
    async fn ask<T>(&self, name: &str, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, HomeError> {
        let (reply, answer) = oneshot::channel();
        let mut command = command(reply);
        for _ in 0..STARTS {
            match self.task(name)?.send(command).await {
                Ok(()) => {
                    let ended = || HomeError::Unavailable("this node cannot work on the conversation now".to_owned());
                    return answer.await.unwrap_or_else(|_| Err(ended()));
                }
                // It has just ended.
                Err(mpsc::error::SendError(back)) => command = back,
            }
        }
        Err(HomeError::Unavailable("this node is ending".to_owned()))
    }

    fn task(&self, name: &str) -> Result<mpsc::Sender<Command>, HomeError> {
        if let Some(commands) = self.0.working.active.get(name).filter(|commands| !commands.is_closed()) {
            return Ok(commands.clone());
        }
        if self.0.working.active.len() >= MAX_ACTIVE || self.0.working.tasks.is_closed() {
            return Err(HomeError::Unavailable("this node works on too many conversations".to_owned()));
        }
        let mut entry = self.0.working.active.entry(name.to_owned()).or_insert_with(|| mpsc::channel(1).0);
        if entry.is_closed() {
            let (commands, waiting) = mpsc::channel(MAX_COMMANDS);
            let work = Conversation::run(name.to_owned(), Arc::clone(&self.0), waiting);
            self.0.working.tasks.spawn(self.0.working.stop.clone().run_until_cancelled_owned(work));
            *entry = commands;
        }
        Ok(entry.clone())
    }

    fn client(&self) -> HomeClient<rpc_client::Client> {
        HomeClient::new(self.0.router.client().clone())
    }

    fn fails(&self, error: &StoreError) -> HomeError {
        self.0.failed(error);
        HomeError::Unavailable("the store of a node fails".to_owned())
    }
}

impl Home for HomeOf {
    async fn append(&self, hops: Hops, to: Address, messages: Vec<Message>) -> Result<Vec<Stored>, HomeError> {
        self.0.append_at_home(hops, to, messages).await
    }

    async fn create(&self, hops: Hops, header: Header) -> Result<Header, HomeError> {
        self.0.create_at_home(hops, header).await
    }

    async fn read(&self, hops: Hops, conversation: String, user: String, after: u64) -> Result<Page, HomeError> {
        self.0.read_at_home(hops, conversation, user, after).await
    }

    async fn held(&self, user: String, after: String) -> Result<Vec<Header>, HomeError> {
        self.0.held_here(&user, after).await
    }

    async fn promise(&self, conversation: String, term: u64) -> Result<Promise, HomeError> {
        self.0.ask(&conversation, |reply| Command::Promise(term, reply)).await
    }

    async fn confirm(&self, epoch: Epoch, conversation: String, term: u64) -> Result<(), HomeError> {
        if epoch != self.0.0.me.key().epoch {
            return Err(HomeError::Superseded);
        }
        self.0.ask(&conversation, |reply| Command::Confirm(term, reply)).await
    }

    async fn copy(&self, epoch: Epoch, change: Change) -> Result<(), HomeError> {
        if epoch != self.0.0.me.key().epoch {
            return Err(HomeError::Superseded);
        }
        let name = change.header.conversation.clone();
        self.0.ask(&name, |reply| Command::Copy(change, reply)).await
    }

    async fn records(&self, conversation: String, after: u64, to: u64) -> Result<Vec<Record>, HomeError> {
        self.0.0.store.records(conversation, after, to, PAGE).await.map_err(|error| self.0.fails(&error))
    }
}

/// Asks a conversation's home until it is there or the time is over. What is asked does no harm twice.
async fn search<T, F: Future<Output = Result<T, HomeError>>>(ask: impl Fn() -> F) -> Result<T, HomeError> {
    let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        match ask().await {
            outcome @ (Ok(_) | Err(HomeError::NotFound)) => return outcome,
            Err(error) if begun.elapsed() + pause >= PATIENCE => return Err(error),
            Err(error) => debug!(%error, "a conversation's home is looked for again"),
        }
        // Not all at once, so that two who are in each other's way do not meet again.
        sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

pub(super) fn cut_off() -> HomeError {
    HomeError::Unavailable("this node is cut off from the others".to_owned())
}

fn outcome<T>(answer: Result<T, CallError<HomeError>>) -> Result<T, HomeError> {
    let unreachable =
        |error: Error| HomeError::Unavailable(format!("the conversation's home does not answer: {error}"));
    answer.map_err(|error| match error {
        CallError::Service(error) => error,
        CallError::Rpc(error) => unreachable(error),
    })
}

/// Conversations in memory at most.
const MAX_ACTIVE: usize = 100_000;
/// Requests that wait for one conversation.
const MAX_COMMANDS: usize = 256;
/// How often a task that has just ended is started anew for one request.
const STARTS: u32 = 3;
/// How long a conversation's home is looked for.
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(800);
/// Conversations that are settled at once.
const AT_ONCE: usize = 32;
/// Conversations of one user that are looked at; of more, nothing is said.
const MAX_HELD: usize = 10_000;
/// How often it is looked whether all is settled.
const LOOK: Duration = Duration::from_secs(1);
