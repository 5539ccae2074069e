//! [`ChatWorkload`]: users that exchange messages while nodes fail, and the checks of the received messages.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use rpc_im::{
    client::{Client, Event, login},
    envelope::{Push, Recipient},
};
use tokio::{sync::watch, time::sleep};

use crate::{
    Task,
    im_nodes::Nodes,
    im_user::{Message, User, UserOptions},
    in_time, until_ok,
};

/// Users on all nodes that send messages to each other and to a group of all users, and a listener that only receives.
pub struct ChatWorkload {
    users: Arc<Vec<User>>,
    listener: Listener,
    group: String,
    bases: Vec<String>,
    stop: watch::Sender<bool>,
    sending: Task<()>,
}

/// A user with `rpc_im::client::Client`, which must emit each message once and in order.
struct Listener {
    received: watch::Sender<BTreeMap<String, Vec<Push>>>,
    _task: Task<()>,
}

/// The members and the acknowledged messages of each conversation.
struct History(BTreeMap<String, (BTreeSet<String>, BTreeMap<u64, Message>)>);

impl ChatWorkload {
    /// Starts a workload of `users` users, distributed over the nodes.
    pub async fn start(nodes: &Nodes, users: usize) -> Self {
        let count = nodes.bases().len();
        let options = |number: usize| UserOptions::at(nodes.websocket(number % count));
        Self::start_with((0..users).map(options).collect(), nodes.bases()).await
    }

    /// Starts a workload with one user for each of the options.
    pub async fn start_with(options: Vec<UserOptions>, bases: Vec<String>) -> Self {
        let mut names: Vec<_> = (0..options.len()).map(|number| format!("user-{number}")).collect();
        let mut users = Vec::new();
        for (name, options) in names.iter().zip(options) {
            users.push(User::connect(name, bases.clone(), options).await);
        }
        names.push(LISTENER.to_owned());
        let group = users[0].create(&names).await;
        let (users, stop) = (Arc::new(users), watch::Sender::new(false));
        let sending = Task::begin(send_messages(Arc::clone(&users), group.clone(), stop.subscribe()));
        let listener = Listener::start(&bases[0]).await;
        let workload = Self { users, listener, group, bases, stop, sending };
        workload.until_stored(1).await;
        workload
    }

    /// Returns the users.
    pub fn users(&self) -> &[User] {
        &self.users
    }

    /// Waits until `more` further messages of each user are acknowledged.
    pub async fn until_stored(&self, more: usize) {
        let stored = self.users.iter().map(|user| user.log().stored.len() + more).collect::<Vec<_>>();
        for (user, wanted) in self.users.iter().zip(stored) {
            user.until("sending", |log| log.stored.len() >= wanted).await;
        }
    }

    /// Ends the workload, and checks the guarantees that hold after any fault:
    ///
    /// - Each member has each acknowledged message once and at its sequence number: the users, new devices that sync
    ///   afterwards, and the listener, which received each message once and in order.
    /// - Each device has one session: those of the workload, and `others`.
    /// - After some users have disconnected, the others see exactly each other online.
    ///
    /// Returns a summary.
    pub async fn end(self, nodes: &Nodes, others: usize) -> String {
        let Self { users, listener, group, bases, stop, sending } = self;
        stop.send_replace(true);
        sending.end().await;
        for user in users.iter() {
            user.until("fully acknowledged", |log| log.unanswered.is_empty()).await;
        }
        let history = History::of(&users);
        let summary = history.summary(&users);
        for user in users.iter() {
            history.check(user).await;
        }
        listener.check(&group, &history.messages(&group)).await;
        let mut devices = Vec::new();
        for user in users.iter() {
            let options = UserOptions { device: "new".to_owned(), ..UserOptions::default() };
            let device = User::connect(user.name(), bases.clone(), options).await;
            history.check(&device).await;
            devices.push(device);
        }
        nodes.until_sessions((2 * users.len() + 1 + others) as u64).await;
        drop(devices);
        let mut users = Arc::into_inner(users).expect("the sending task has ended");
        users.truncate(users.len() / 2);
        let offline = until_all_see_each_other(&users).await;
        format!("{summary}; disconnected users were reported offline after {offline:.1?}")
    }
}

impl Listener {
    async fn start(base: &str) -> Self {
        let logged_in = until_ok(async || login(base, LISTENER, "any", "program", "any").await).await;
        let received = watch::Sender::new(BTreeMap::<String, Vec<Push>>::new());
        let sender = received.clone();
        let mut client = Client::start(logged_in);
        let task = Task::begin(async move {
            while let Some(event) = client.next().await {
                if let Event::Message(push) = event {
                    sender.send_modify(|received| received.entry(push.conversation.clone()).or_default().push(push));
                }
            }
        });
        Self { received, _task: task }
    }

    /// Checks that the listener received all messages of a conversation in order. It must not have sent any of them.
    async fn check(&self, conversation: &str, expected: &BTreeMap<u64, Message>) {
        let length = |received: &BTreeMap<String, Vec<Push>>| received.get(conversation).map_or(0, Vec::len);
        let mut received = self.received.subscribe();
        let received = in_time(received.wait_for(|received| length(received) >= expected.len()));
        let received = received.await.expect("`self` holds the sender");
        let received = received.get(conversation).into_iter().flatten().map(|push| {
            let Push { incarnation, seq, from, time, body, .. } = push.clone();
            (seq, Message { incarnation, time, from, body })
        });
        let expected = expected.iter().map(|(seq, message)| (*seq, message.clone()));
        assert_eq!(received.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "messages of the listener");
    }
}

impl History {
    /// Collects the acknowledged messages of these users.
    fn of(users: &[User]) -> Self {
        let mut all: BTreeSet<_> = users.iter().map(|user| user.name().to_owned()).collect();
        all.insert(LISTENER.to_owned());
        let mut history = BTreeMap::new();
        for user in users {
            for stored in user.log().stored.values() {
                let members = match &stored.to {
                    Recipient::User(other) => [user.name().to_owned(), other.clone()].into(),
                    Recipient::Conversation(_) => all.clone(),
                };
                let conversation =
                    history.entry(stored.conversation.clone()).or_insert_with(|| (members.clone(), BTreeMap::new()));
                assert_eq!(conversation.0, members, "members of {}", stored.conversation);
                let other = conversation.1.insert(stored.seq, stored.message.clone());
                assert_eq!(other, None, "two messages at one position of {}: {stored:?}", stored.conversation);
            }
        }
        for (name, (_, messages)) in &history {
            assert!(messages.keys().copied().eq(1..=messages.len() as u64), "{name} has gaps: {messages:?}");
        }
        Self(history)
    }

    fn messages(&self, conversation: &str) -> BTreeMap<u64, Message> {
        self.0.get(conversation).map(|(_, messages)| messages.clone()).unwrap_or_default()
    }

    fn of_member(&self, user: &str) -> impl Iterator<Item = (&String, &BTreeMap<u64, Message>)> {
        let conversations = self.0.iter().filter(move |(_, (members, _))| members.contains(user));
        conversations.map(|(name, (_, messages))| (name, messages))
    }

    /// Checks that a member has, after a sync, each message at its position and at no other.
    async fn check(&self, user: &User) {
        for (name, messages) in self.of_member(user.name()) {
            user.sync_until(name, messages.len() as u64).await;
            assert_eq!(user.log().messages[name], *messages, "messages of {name} at {}", user.name());
        }
        let log = user.log();
        assert_eq!(log.violations, Vec::<String>::new(), "violations at {}", user.name());
        assert_eq!(log.ended, None, "the session of {} has ended", user.name());
    }

    /// Returns a summary of the workload before the final syncs.
    fn summary(&self, users: &[User]) -> String {
        let (mut received, mut expected, mut duplicates, mut disconnections) = (0, 0, 0, Vec::new());
        for user in users {
            let log = user.log();
            for (name, messages) in self.of_member(user.name()) {
                expected += messages.len();
                received += log.messages.get(name).map_or(0, BTreeMap::len).min(messages.len());
            }
            duplicates += log.duplicates;
            disconnections.extend(log.disconnections.iter().copied());
        }
        let messages: usize = self.0.values().map(|(_, messages)| messages.len()).sum();
        format!(
            "{messages} messages in {} conversations, 0 lost, 0 at two positions; {received} of {expected} received before the \
             final sync, {duplicates} duplicates; {} disconnections of at most {:.1?}",
            self.0.len(),
            disconnections.len(),
            disconnections.iter().max().unwrap_or(&Duration::ZERO)
        )
    }
}

/// Sends messages from every user to one other user, and in every fourth round to the group, until `stop` is set.
async fn send_messages(users: Arc<Vec<User>>, group: String, stop: watch::Receiver<bool>) {
    let mut round = 0;
    while !*stop.borrow() {
        round += 1;
        for (number, user) in users.iter().enumerate() {
            if user.log().unanswered.len() >= MAX_UNANSWERED {
                continue;
            }
            let other = &users[(number + 1 + round % (users.len() - 1)) % users.len()];
            let to = match round % 4 {
                0 => Recipient::Conversation(group.clone()),
                _ => Recipient::User(other.name().to_owned()),
            };
            user.send(to, "hello");
        }
        sleep(SEND_INTERVAL).await;
    }
}

/// Waits until an observer sees none of `users` online; returns the time that it took.
///
/// # Panics
///
/// Panics if the observer still sees one of them after 60 s.
pub async fn until_offline(observer: &User, users: &BTreeSet<String>) -> Duration {
    until_online(observer, |online| online.is_disjoint(users)).await
}

/// Waits until each of the remaining users sees exactly the others and the listener online.
async fn until_all_see_each_other(users: &[User]) -> Duration {
    let start = Instant::now();
    for user in users {
        let others = users.iter().map(User::name).filter(|name| *name != user.name());
        let others: BTreeSet<_> = others.chain([LISTENER]).map(str::to_owned).collect();
        until_online(user, |online| *online == others).await;
    }
    start.elapsed()
}

async fn until_online(observer: &User, condition: impl Fn(&BTreeSet<String>) -> bool) -> Duration {
    let start = Instant::now();
    loop {
        let online = observer.online_contacts().await;
        if condition(&online) {
            return start.elapsed();
        }
        assert!(start.elapsed() < TIMEOUT, "{} still sees {online:?} online", observer.name());
        sleep(Duration::from_millis(150)).await;
    }
}

/// The name of the listener.
const LISTENER: &str = "listener";
/// The maximum number of unanswered messages of a user.
const MAX_UNANSWERED: usize = 8;
/// The interval between two messages of a user; a node accepts 20 per second.
const SEND_INTERVAL: Duration = Duration::from_millis(250);
/// The limit of every wait; far longer than any of them takes.
const TIMEOUT: Duration = Duration::from_secs(60);
