//! [`Workload`]: users that chat and log in concurrently while a test injects faults.

use std::{
    collections::BTreeSet,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use rpc_im::envelope::{ClientFrame, Create, Recipient, ServerFrame};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{
    Event, History, Violation, check,
    device::{Device, Message, State},
    open_twice,
    reader::read_back,
    undelivered,
};
use crate::{
    Task,
    im_line::{log_in, token},
    in_time,
};

/// Users that send messages to each other and to a group, and users whose devices log in at two nodes at a time.
pub struct Workload {
    nodes: Vec<Node>,
    users: BTreeSet<String>,
    talkers: Arc<Vec<Talker>>,
    racing: watch::Sender<bool>,
    sending: Task<()>,
    history: Arc<History>,
    _racers: Vec<Task<()>>,
}

/// The number of users of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// The users that send messages.
    pub talkers: usize,
    /// The users whose device logs in at two nodes at a time.
    pub racers: usize,
    /// The members of the group that have no client.
    pub absent: usize,
}

/// The addresses of a node for clients.
#[derive(Debug, Clone)]
pub struct Node {
    /// The base URL of HTTP requests.
    pub base: String,
    /// The URL of WebSocket connections.
    pub url: String,
}

struct Talker {
    user: String,
    messages: mpsc::Sender<Message>,
    /// The number of messages without an answer.
    waiting: Arc<watch::Sender<usize>>,
    _task: Task<()>,
}

/// The outcome of a workload.
#[derive(Debug)]
pub struct Report {
    /// The number of acknowledged messages.
    pub acknowledged: usize,
    /// The number of messages whose outcome was unknown for a while.
    pub unknown: usize,
    /// The number of sessions.
    pub sessions: usize,
    /// The time from the end of the faults until each device had one session and each session had all messages.
    pub healed_after: Duration,
    /// The broken guarantees.
    pub violations: Vec<Violation>,
}

impl Workload {
    /// Starts users on all nodes. Each second user keeps its connection to a node that does not answer.
    pub async fn start(nodes: Vec<Node>, Scale { talkers, racers, absent }: Scale) -> Self {
        // The users of another workload on the same nodes have other names.
        let name = format!("{:06x}", rand::random::<u32>() >> 8);
        let talking: Vec<_> = (0..talkers).map(|number| format!("talker-{name}-{number}")).collect();
        let racing: Vec<_> = (0..racers).map(|number| format!("racer-{name}-{number}")).collect();
        let users: BTreeSet<_> = talking.iter().chain(&racing).cloned().collect();
        let group = create_group(&nodes, &talking[0], &users, absent).await;
        let history = Arc::new(History::new());
        let is_racing = watch::Sender::new(true);
        let mut clients = 0;
        let mut device = async |user: &str, first: usize, patience, races| {
            clients += 1;
            let bases: Vec<_> = nodes.iter().map(|node| node.base.clone()).collect();
            let device = Device {
                client: clients,
                user: user.to_owned(),
                device: DEVICE.to_owned(),
                token: in_time(token(&bases, user, DEVICE, "program")).await,
                nodes: (0..nodes.len()).map(|number| nodes[(first + number) % nodes.len()].url.clone()).collect(),
                patience,
                races,
                racing: is_racing.subscribe(),
                history: Arc::clone(&history),
                waiting: Arc::default(),
                state: State::default(),
            };
            let waiting = Arc::clone(&device.waiting);
            let (messages, received) = mpsc::channel(MAX_UNANSWERED);
            let task = Task::begin(device.run(received));
            (messages, waiting, task)
        };
        let mut talkers = Vec::new();
        for (number, user) in talking.iter().enumerate() {
            let patience = if number % 2 == 0 { IMPATIENT } else { PATIENT };
            let (messages, waiting, task) = device(user, number, patience, false).await;
            talkers.push(Talker { user: user.clone(), messages, waiting, _task: task });
        }
        let mut tasks = Vec::new();
        for (number, user) in racing.iter().enumerate() {
            for first in [number, number + 1] {
                tasks.push(device(user, first, PATIENT, true).await.2);
            }
        }
        let talkers = Arc::new(talkers);
        let sending = Task::begin(send_messages(Arc::clone(&talkers), users.clone(), group));
        let workload = Self { nodes, users, talkers, racing: is_racing, sending, history, _racers: tasks };
        workload.until_acknowledged(talking.len()).await;
        workload
    }

    /// Waits until `more` further messages are acknowledged.
    pub async fn until_acknowledged(&self, more: usize) {
        self.until_more(more, |event| matches!(event, Event::Acknowledged { .. })).await;
    }

    /// Waits until the outcome of `more` further attempts to send a message is unknown.
    pub async fn until_unknown(&self, more: usize) {
        self.until_more(more, |event| matches!(event, Event::Unknown { .. })).await;
    }

    /// Waits until `more` further sessions have begun.
    pub async fn until_sessions(&self, more: usize) {
        self.until_more(more, |event| matches!(event, Event::Opened { .. })).await;
    }

    /// Waits until each open session has the messages that are acknowledged now.
    pub async fn until_delivered(&self) {
        let now = self.history.read(|events| events.last().map_or(Duration::ZERO, |(at, _)| *at));
        let all = in_time(until_empty(|| self.history.read(|events| undelivered(events, now))));
        all.await;
    }

    async fn until_more(&self, more: usize, wanted: fn(&Event) -> bool) {
        let count = || self.history.read(|events| events.iter().filter(|(_, event)| wanted(event)).count());
        let before = count();
        in_time(async {
            while count() < before + more {
                sleep(POLL).await;
            }
        })
        .await;
    }

    /// Ends the workload after the test has ended all faults, and checks all guarantees.
    pub async fn finish(self) -> Report {
        let healed = Instant::now();
        self.racing.send_replace(false);
        let Self { nodes, users, talkers, sending, history, _racers, .. } = self;
        let mut violations = Vec::new();
        if timeout(SESSION_TIME, until_empty(|| history.read(open_twice))).await.is_err() {
            violations.extend(history.read(open_twice));
        }
        sending.abort().await;
        // Each user with a session receives a message from now on.
        for talker in talkers.iter() {
            for user in users.iter().filter(|user| **user != talker.user) {
                let body = format!("{}/probe of {user}", talker.user);
                let members = [talker.user.clone(), user.clone()].into();
                let probe = Message { to: Recipient::User(user.clone()), members, body };
                talker.waiting.send_modify(|count| *count += 1);
                in_time(talker.messages.send(probe)).await.expect("the client runs");
            }
        }
        for talker in talkers.iter() {
            let mut waiting = talker.waiting.subscribe();
            let answered = timeout(ANSWER_TIME, waiting.wait_for(|count| *count == 0)).await;
            assert!(answered.is_ok(), "messages of {} are unanswered {ANSWER_TIME:?} after all faults", talker.user);
        }
        let all = until_empty(|| history.read(|events| undelivered(events, Duration::MAX)));
        // The check below reports what is missing after the limit.
        let _ = timeout(DELIVERY_TIME, all).await;
        let healed_after = healed.elapsed();
        let bases: Vec<_> = nodes.iter().map(|node| node.base.clone()).collect();
        let mut reads = Vec::new();
        for (number, user) in users.iter().enumerate() {
            reads.push(read_back(&bases, &nodes[number % nodes.len()].url, user).await);
        }
        history.read(|events| {
            violations.extend(check(events, &reads));
            violations.dedup();
            let count = |wanted: fn(&Event) -> bool| events.iter().filter(|(_, event)| wanted(event)).count();
            let unknown: BTreeSet<_> = events
                .iter()
                .filter_map(|(_, event)| match event {
                    Event::Unknown { body } => Some(body),
                    _ => None,
                })
                .collect();
            Report {
                acknowledged: count(|event| matches!(event, Event::Acknowledged { .. })),
                unknown: unknown.len(),
                sessions: count(|event| matches!(event, Event::Opened { .. })),
                healed_after,
                violations,
            }
        })
    }
}

impl Report {
    /// Panics if a guarantee is broken.
    pub fn expect_no_violations(&self) {
        let violations: Vec<_> = self.violations.iter().take(SHOWN).map(ToString::to_string).collect();
        let count = self.violations.len();
        assert!(violations.is_empty(), "{count} violations; {self}; the first ones:\n{}", violations.join("\n"));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, unknown, sessions, healed_after, violations } = self;
        write!(
            f,
            "{acknowledged} acknowledged messages, {unknown} with an outcome that was unknown for a while, {sessions} \
             sessions, complete {healed_after:.1?} after the faults, {} violations",
            violations.len()
        )
    }
}

async fn create_group(nodes: &[Node], creator: &str, users: &BTreeSet<String>, absent: usize) -> String {
    let bases: Vec<_> = nodes.iter().map(|node| node.base.clone()).collect();
    let token = in_time(token(&bases, creator, "creator", "program")).await;
    let mut line = log_in(&nodes[0].url, &token).await.expect("the node accepts the login");
    let absent = (0..absent).map(|number| format!("absent-{number}"));
    let members = users.iter().cloned().chain(absent).collect();
    let create = Create { id: "group".to_owned(), name: "all".to_owned(), members, open: false };
    line.say(&ClientFrame::Create(create)).await.expect("the line is open");
    in_time(async {
        loop {
            if let ServerFrame::Conversation(created) = line.next().await.expect("the line is open") {
                return created.conversation;
            }
        }
    })
    .await
}

/// Sends messages from every talker, each fourth one to the group and the others to one user, until dropped.
async fn send_messages(talkers: Arc<Vec<Talker>>, users: BTreeSet<String>, group: String) {
    let users: Vec<_> = users.into_iter().collect();
    for round in 0_usize.. {
        for (number, talker) in talkers.iter().enumerate() {
            if *talker.waiting.borrow() >= MAX_UNANSWERED {
                continue;
            }
            let other = &users[(number + round) % users.len()];
            let (to, members) = if round % 4 == 0 || *other == talker.user {
                (Recipient::Conversation(group.clone()), users.iter().cloned().collect())
            } else {
                (Recipient::User(other.clone()), [talker.user.clone(), other.clone()].into())
            };
            let message = Message { to, members, body: format!("{}/{round}", talker.user) };
            // A client that is not connected keeps a few messages in its queue.
            talker.waiting.send_modify(|count| *count += 1);
            if talker.messages.try_send(message).is_err() {
                talker.waiting.send_modify(|count| *count -= 1);
            }
        }
        sleep(SEND_INTERVAL).await;
    }
}

/// Waits until `violations` returns none.
async fn until_empty(violations: impl Fn() -> Vec<Violation>) {
    while !violations().is_empty() {
        sleep(POLL).await;
    }
}

/// The device of each user; clients that race share it.
const DEVICE: &str = "device";
/// The maximum number of unanswered messages of a user.
const MAX_UNANSWERED: usize = 8;
/// The interval between two messages of a user; a node accepts 20 per second.
const SEND_INTERVAL: Duration = Duration::from_millis(200);
/// The interval at which the history is checked.
const POLL: Duration = Duration::from_millis(100);
/// The patience of a user that looks for another node.
const IMPATIENT: Duration = Duration::from_secs(3);
/// The patience of a user that keeps its session, however long a node does not answer.
const PATIENT: Duration = Duration::from_secs(600);
/// The time after the faults in which each device has at most one session.
const SESSION_TIME: Duration = Duration::from_secs(10);
/// The time after the faults in which each message is answered.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// The time after the last message in which each session has received it.
const DELIVERY_TIME: Duration = Duration::from_secs(15);
/// The number of violations in a message of a failed test.
const SHOWN: usize = 12;
