//! [`User`]: a client of an IM cluster that reconnects by itself, and records everything that it receives.

mod driver;
mod log;
mod options;

pub use self::{
    log::{Log, Message, Stored},
    options::UserOptions,
};

use std::{collections::BTreeSet, time::Duration};

use rpc_im::envelope::{Create, Recipient};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use self::driver::{Command, Driver};
use crate::{Task, in_time};

/// One device of one user, connected to a node whenever one is available. Its [`Log`] records everything that it receives.
///
/// It does not use `rpc_im::client::Client`, which hides duplicates and messages out of order.
pub struct User {
    name: String,
    commands: mpsc::Sender<Command>,
    log: watch::Sender<Log>,
    _task: Task<()>,
}

impl User {
    /// Starts a user, which finds nodes through the gate of any of `bases`.
    pub fn start(name: &str, bases: Vec<String>, options: UserOptions) -> Self {
        let (commands, commands_receiver) = mpsc::channel(MAX_COMMANDS);
        let log = watch::Sender::new(Log::default());
        let driver = Driver { name: name.to_owned(), bases, options, log: log.clone() };
        Self { name: name.to_owned(), commands, log, _task: Task::begin(driver.run(commands_receiver)) }
    }

    /// Starts a user, and waits until it is connected.
    pub async fn connect(name: &str, bases: Vec<String>, options: UserOptions) -> Self {
        let user = Self::start(name, bases, options);
        user.until("connected", |log| log.node.is_some()).await;
        user
    }

    /// Returns the name of the user.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the record of everything that the device has received.
    pub fn log(&self) -> watch::Ref<'_, Log> {
        self.log.borrow()
    }

    /// Sends a message with a unique body, and retries it until it is acknowledged. Returns its id.
    pub fn send(&self, to: Recipient, text: &str) -> u64 {
        let mut id = 0;
        self.log.send_modify(|log| {
            log.next_id += 1;
            id = log.next_id;
            let body = format!("{}/{id}: {text}", self.name);
            log.unanswered.insert(id, (to, body));
        });
        self.command(Command::Send(id));
        id
    }

    /// Sends a message to a user, and waits until it is acknowledged.
    pub async fn send_until_stored(&self, user: &str, text: &str) -> Stored {
        let id = self.send(Recipient::User(user.to_owned()), text);
        self.until("acknowledged", |log| log.stored.contains_key(&id)).await;
        self.log().stored[&id].clone()
    }

    /// Creates a conversation with these members; returns its id.
    pub async fn create(&self, members: &[String]) -> String {
        let mut id = 0;
        self.log.send_modify(|log| {
            log.next_id += 1;
            id = log.next_id;
        });
        let create = Create { id: id.to_string(), name: "all".to_owned(), members: members.to_vec(), open: false };
        in_time(async {
            loop {
                self.command(Command::Create(create.clone()));
                let created = self.changed(|log| log.created.contains_key(&id));
                if timeout(Duration::from_secs(2), created).await.is_ok() {
                    return self.log().created[&id].clone();
                }
            }
        })
        .await
    }

    /// Syncs until the device has all messages of a conversation up to this sequence number.
    pub async fn sync_until(&self, conversation: &str, last: u64) {
        let complete = |log: &Log| log.cursor(conversation) >= last;
        let synced = async {
            loop {
                if timeout(Duration::from_millis(1500), self.changed(complete)).await.is_ok() {
                    return;
                }
                self.command(Command::Sync);
            }
        };
        if timeout(TIMEOUT, synced).await.is_err() {
            let log = self.log();
            let received: Vec<_> = log.messages.get(conversation).into_iter().flatten().map(|(seq, _)| *seq).collect();
            panic!(
                "{} has messages {received:?} of {last} of {conversation}; node {:?}, ended {:?}, {} rejections",
                self.name, log.node, log.ended, log.rejections
            );
        }
    }

    /// Syncs, and returns the contacts of the user that are online.
    pub async fn online_contacts(&self) -> BTreeSet<String> {
        loop {
            let mut before = (0, 0);
            self.log.send_modify(|log| {
                log.online.clear();
                before = (log.logins, log.rejections);
            });
            self.command(Command::Sync);
            // A node handles the frames of a client in order: the ack of this message follows the whole answer to the sync.
            self.send_until_stored(&self.name, "end of sync").await;
            let log = self.log();
            if before == (log.logins, log.rejections) {
                return log.online.clone();
            }
        }
    }

    /// Waits until the log satisfies a condition, which `expected` names in the panic after a timeout.
    pub async fn until(&self, expected: &str, condition: impl Fn(&Log) -> bool) {
        if timeout(TIMEOUT, self.changed(condition)).await.is_err() {
            let log = self.log();
            panic!(
                "{} is not {expected} after {TIMEOUT:?}: node {:?}, ended {:?}, {} unanswered, violations {:?}",
                self.name,
                log.node,
                log.ended,
                log.unanswered.len(),
                log.violations
            );
        }
    }

    async fn changed(&self, condition: impl Fn(&Log) -> bool) {
        let mut changes = self.log.subscribe();
        drop(changes.wait_for(|log| condition(log)).await.expect("`self` holds the sender"));
    }

    fn command(&self, command: Command) {
        // A full or closed queue loses nothing: the log holds each message until it is acknowledged, and records the end.
        let _ = self.commands.try_send(command);
    }
}

/// The maximum number of commands that wait while the user is not connected.
const MAX_COMMANDS: usize = 256;
/// The limit of every wait; far longer than any of them takes.
const TIMEOUT: Duration = Duration::from_secs(60);
