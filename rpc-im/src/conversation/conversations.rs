//! [`Conversations`]: routes requests for a conversation to its leader, on this node or another one.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future::join_all, stream};
use rpc_client::Client;
use rpc_core::{CallError, contained};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tracing::{debug, info};

use super::{
    command::{Append, Command, Reply},
    context::{ConversationContext, PAGE},
    error::{ConversationError, no_majority},
    reference::ConversationRef,
    rpc::{ConversationRpcClient, MessagePage, NewMessage, StoredMessage},
    task::ConversationTask,
};
use crate::{
    cluster::{hops::Hops, view::NodeInfo},
    identity::Epoch,
    store::{Header, Record},
};

/// Routes requests for a conversation to its leader, on this node or another one.
pub(crate) struct Conversations(Arc<ConversationContext>);

impl Conversations {
    pub(crate) fn new(context: ConversationContext) -> Self {
        Self(Arc::new(context))
    }

    /// Appends messages to a conversation; returns once all replicas have stored them.
    pub(crate) async fn append(
        &self,
        to: ConversationRef,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<StoredMessage>, ConversationError> {
        retry(|| self.append_at_leader(Hops::NONE, to.clone(), messages.clone())).await
    }

    /// Creates a conversation unless it exists, and returns its header.
    pub(crate) async fn create(&self, header: Header) -> Result<Header, ConversationError> {
        retry(|| self.create_at_leader(Hops::NONE, header.clone())).await
    }

    /// Returns the messages after `after`, for a member of the conversation.
    pub(crate) async fn read(
        &self,
        conversation: &str,
        user: &str,
        after: u64,
    ) -> Result<MessagePage, ConversationError> {
        retry(|| self.read_at_leader(Hops::NONE, conversation.to_owned(), user.to_owned(), after)).await
    }

    /// Returns the conversations of a user, the newest header of all nodes for each.
    ///
    /// The result has at most [`MAX_REPLICAS`] conversations of each node.
    pub(crate) async fn of_user(&self, user: &str) -> Result<Vec<Header>, ConversationError> {
        let view = self.0.router.majority_view().ok_or_else(no_majority)?;
        let replicas = join_all(view.nodes.iter().map(|node| self.replicas_at(node, user)));
        let mut newest = BTreeMap::<String, Header>::new();
        for headers in replicas.await {
            for header in headers? {
                let known = newest.entry(header.conversation.clone()).or_insert_with(|| header.clone());
                if (known.term, known.last) < (header.term, header.last) {
                    *known = header;
                }
            }
        }
        Ok(newest.into_values().collect())
    }

    /// Leads the conversations that this node owns after each change of the view, until dropped.
    ///
    /// So conversations of a lost node have their replicas again before the next message.
    pub(crate) async fn run(&self) {
        let mut views = self.0.router.watch();
        let mut settled = None;
        loop {
            let view = Arc::clone(&views.borrow_and_update());
            let version = self.0.router.topology_version();
            if settled != Some((version, view.fingerprint)) && self.0.router.majority_view().is_some() {
                match self.settle(view.nodes.len()).await {
                    Ok(conversations) => {
                        settled = Some((version, view.fingerprint));
                        contained(
                            || info!(node = %self.0.local.key(), conversations, "all conversations of this node are replicated"),
                        );
                    }
                    Err(error) => {
                        contained(
                            || debug!(node = %self.0.local.key(), %error, "some conversations of this node are not replicated yet"),
                        );
                    }
                }
            }
            tokio::select! {
                // Both branches are cancel safe: the next iteration reads the current state.
                _ = views.changed() => {}
                () = sleep(SETTLE_INTERVAL) => {}
            }
        }
    }

    /// Aborts all tasks. Changes that were not answered may or may not be stored.
    pub(crate) fn stop(&self) {
        self.0.active.tasks.close();
        self.0.active.stop.cancel();
    }

    /// Waits until all tasks have ended after [`stop`](Self::stop), so that they use the store no longer.
    pub(crate) async fn stopped(&self) {
        self.0.active.tasks.wait().await;
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.0.local.key().epoch
    }

    pub(super) async fn append_at_leader(
        &self,
        hops: Hops,
        to: ConversationRef,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<StoredMessage>, ConversationError> {
        match self.remote_leader(hops, &to.conversation)? {
            None => self.append_here(to, messages).await,
            Some((leader, hops)) => self.client().append(hops, to, messages).address(leader).await.map_err(call_error),
        }
    }

    pub(super) async fn create_at_leader(&self, hops: Hops, header: Header) -> Result<Header, ConversationError> {
        match self.remote_leader(hops, &header.conversation)? {
            None => self.create_here(header).await,
            Some((leader, hops)) => self.client().create(hops, header).address(leader).await.map_err(call_error),
        }
    }

    pub(super) async fn read_at_leader(
        &self,
        hops: Hops,
        name: String,
        user: String,
        after: u64,
    ) -> Result<MessagePage, ConversationError> {
        match self.remote_leader(hops, &name)? {
            None => self.read_here(name, &user, after).await,
            Some((leader, hops)) => {
                self.client().read(hops, name, user, after).address(leader).await.map_err(call_error)
            }
        }
    }

    pub(super) async fn local_replicas_of(&self, user: &str, after: String) -> Result<Vec<Header>, ConversationError> {
        let headers = self.0.store.of_user(user.to_owned(), after, PAGE).await;
        headers.map_err(|error| self.0.store_failed(&error))
    }

    pub(super) async fn local_records(
        &self,
        name: String,
        after: u64,
        to: u64,
    ) -> Result<Vec<Record>, ConversationError> {
        self.0.store.records(name, after, to, PAGE).await.map_err(|error| self.0.store_failed(&error))
    }

    /// Executes a command in the task of a conversation on this node; starts the task if necessary.
    pub(super) async fn execute<T>(
        &self,
        name: &str,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, ConversationError> {
        let (reply, answer) = oneshot::channel();
        let mut command = command(reply);
        for _ in 0..MAX_STARTS {
            match self.task(name)?.send(command).await {
                Ok(()) => {
                    let ended = "the conversation's task ended before it answered".to_owned();
                    return answer.await.unwrap_or_else(|_| Err(ConversationError::Unavailable(ended)));
                }
                // The task ended after the lookup.
                Err(mpsc::error::SendError(returned)) => command = returned,
            }
        }
        Err(ConversationError::Unavailable("this node is shutting down".to_owned()))
    }

    /// Returns all replicas of a node, page by page.
    async fn replicas_at(&self, node: &NodeInfo, user: &str) -> Result<Vec<Header>, ConversationError> {
        let mut replicas = Vec::<Header>::new();
        while replicas.len() < MAX_REPLICAS {
            let after = replicas.last().map_or_else(String::new, |last| last.conversation.clone());
            let page = if node.key == self.0.local.key() {
                self.local_replicas_of(user, after).await?
            } else {
                self.client().replicas_of(user.to_owned(), after).address(node.address).await.map_err(call_error)?
            };
            if page.is_empty() {
                break;
            }
            replicas.extend(page);
        }
        Ok(replicas)
    }

    async fn settle(&self, nodes: usize) -> Result<usize, ConversationError> {
        self.0.store.set_nodes(nodes as u64).await.map_err(|error| self.0.store_failed(&error))?;
        let (mut after, mut settled) = (String::new(), 0);
        loop {
            let page = self.0.store.page(after, PAGE.records).await.map_err(|error| self.0.store_failed(&error))?;
            let Some(last) = page.last() else { return Ok(settled) };
            after = last.conversation.clone();
            let view = self.0.router.view();
            let owned = page
                .into_iter()
                .filter(|header| header.is_begun() && view.owner(&header.conversation).key == self.0.local.key());
            let settling =
                stream::iter(owned).map(async |header| self.execute(&header.conversation, Command::Settle).await);
            let mut settling = std::pin::pin!(settling.buffer_unordered(MAX_SETTLING));
            while let Some(outcome) = settling.next().await {
                match outcome {
                    Ok(_) => settled += 1,
                    // The view has changed, which starts another round.
                    Err(ConversationError::NotLeader) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Returns the address of a conversation's leader; `None` if this node is the leader.
    ///
    /// The second value is the number of hops of the forwarded request.
    fn remote_leader(&self, hops: Hops, conversation: &str) -> Result<Option<(SocketAddr, Hops)>, ConversationError> {
        let view = self.0.router.majority_view().ok_or_else(no_majority)?;
        let leader = view.owner(conversation);
        if leader.key == self.0.local.key() {
            return Ok(None);
        }
        hops.next().map(|hops| Some((leader.address, hops))).ok_or(ConversationError::NotLeader)
    }

    async fn append_here(
        &self,
        to: ConversationRef,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<StoredMessage>, ConversationError> {
        if !to.is_valid() {
            return Err(ConversationError::NotFound);
        }
        let name = to.conversation.clone();
        self.execute(&name, |reply| Command::Append(Append { to, messages, reply })).await
    }

    async fn create_here(&self, header: Header) -> Result<Header, ConversationError> {
        let name = header.conversation.clone();
        self.execute(&name, |reply| Command::Create(header, reply)).await
    }

    async fn read_here(&self, name: String, user: &str, after: u64) -> Result<MessagePage, ConversationError> {
        let header = self.execute(&name, Command::Lead).await?.ok_or(ConversationError::NotFound)?;
        if !header.members.iter().any(|member| member == user) {
            return Err(ConversationError::NotFound);
        }
        // Another leader may still replace messages that some replica lacks.
        let last = header.committed;
        Ok(MessagePage { records: self.local_records(name, after, last).await?, last })
    }

    fn task(&self, name: &str) -> Result<mpsc::Sender<Command>, ConversationError> {
        let active = &self.0.active;
        if let Some(commands) = active.senders.get(name).filter(|commands| !commands.is_closed()) {
            return Ok(commands.clone());
        }
        if active.senders.len() >= MAX_ACTIVE || active.tasks.is_closed() {
            let message = format!("this node is shutting down or has {MAX_ACTIVE} active conversations (MAX_ACTIVE)");
            return Err(ConversationError::Unavailable(message));
        }
        let mut sender = active.senders.entry(name.to_owned()).or_insert_with(|| mpsc::channel(1).0);
        if sender.is_closed() {
            let (commands, waiting) = mpsc::channel(MAX_COMMANDS);
            let task = ConversationTask::run(name.to_owned(), Arc::clone(&self.0), waiting);
            active.tasks.spawn(active.stop.clone().run_until_cancelled_owned(task));
            *sender = commands;
        }
        Ok(sender.clone())
    }

    fn client(&self) -> ConversationRpcClient<Client> {
        ConversationRpcClient::new(self.0.router.client().clone())
    }
}

/// Retries an idempotent request for [`RETRY_TIME`], unless the conversation does not exist.
async fn retry<T, F: Future<Output = Result<T, ConversationError>>>(
    request: impl Fn() -> F,
) -> Result<T, ConversationError> {
    let (started, mut pause) = (Instant::now(), MIN_PAUSE);
    loop {
        match request().await {
            outcome @ (Ok(_) | Err(ConversationError::NotFound)) => return outcome,
            Err(error) if started.elapsed() + pause >= RETRY_TIME => return Err(error),
            Err(error) => {
                contained(|| debug!(%error, "a request for a conversation failed; retrying"));
            }
        }
        // Jitter, so that two conflicting callers do not conflict again.
        sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

fn call_error(error: CallError<ConversationError>) -> ConversationError {
    match error {
        CallError::Service(error) => error,
        CallError::Rpc(error) => {
            ConversationError::Unavailable(format!("the leader of the conversation does not answer: {error}"))
        }
    }
}

/// The maximum number of conversations with a task on this node.
const MAX_ACTIVE: usize = 100_000;
/// The maximum number of waiting commands of one conversation.
const MAX_COMMANDS: usize = 256;
/// The maximum number of tasks that are started for one command.
const MAX_STARTS: u32 = 3;
/// The time for which a failing request is retried.
const RETRY_TIME: Duration = Duration::from_secs(5);
/// The first pause between two attempts; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_millis(800);
/// The maximum number of conversations that are settled concurrently.
const MAX_SETTLING: usize = 32;
/// The number of a user's conversations from one node above which no further page is read.
const MAX_REPLICAS: usize = 10_000;
/// The interval at which the node checks whether its conversations are settled.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);
