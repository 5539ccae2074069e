//! [`Talk`]: users who talk while nodes die, and what must be true of what they were told afterwards.

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
    im_user::{Manner, Message, User},
    in_time, until_ok,
};

/// Users who talk with each other, in pairs and all together, on all nodes; and one who listens.
pub struct Talk {
    users: Arc<Vec<User>>,
    listener: Listener,
    all: String,
    bases: Vec<String>,
    stop: watch::Sender<bool>,
    talking: Task<()>,
}

/// A user with the client that programs use, which is to tell everything once and in its order.
struct Listener {
    told: watch::Sender<BTreeMap<String, Vec<Push>>>,
    _task: Task<()>,
}

/// Of each conversation its members, and what they were told to be safe, in its places.
struct History(BTreeMap<String, (BTreeSet<String>, BTreeMap<u64, Message>)>);

impl Talk {
    /// Begins a talk of users who are on the nodes in turn.
    pub async fn begin(nodes: &Nodes, users: usize) -> Self {
        let count = nodes.bases().len();
        let manner = |number: usize| Manner::at(nodes.websocket(number % count));
        Self::begin_with((0..users).map(manner).collect(), nodes.bases()).await
    }

    /// Begins a talk of a user for each of these manners.
    pub async fn begin_with(manners: Vec<Manner>, bases: Vec<String>) -> Self {
        let mut names: Vec<_> = (0..manners.len()).map(|number| format!("user-{number}")).collect();
        let mut users = Vec::new();
        for (name, manner) in names.iter().zip(manners) {
            users.push(User::come(name, bases.clone(), manner).await);
        }
        names.push(LISTENER.to_owned());
        let all = users[0].create(&names).await;
        let (users, stop) = (Arc::new(users), watch::Sender::new(false));
        let talking = Task::begin(talk(Arc::clone(&users), all.clone(), stop.subscribe()));
        let listener = Listener::begin(&bases[0]).await;
        let talk = Self { users, listener, all, bases, stop, talking };
        talk.until_said(1).await;
        talk
    }

    /// The users.
    pub fn users(&self) -> &[User] {
        &self.users
    }

    /// Waits until each user was told of so many more messages that they are safe.
    pub async fn until_said(&self, more: usize) {
        let stored = self.users.iter().map(|user| user.book().stored.len() + more).collect::<Vec<_>>();
        for (user, wanted) in self.users.iter().zip(stored) {
            user.until("says more", |book| book.stored.len() >= wanted).await;
        }
    }

    /// Ends the talk, and checks what must be true after whatever happened:
    ///
    /// - each acknowledged message has reached each member once and in its place: the users who were there, devices that come
    ///   afterwards and ask for everything, and the program that listens, which was told it once and in order;
    /// - each device has one session: these, and those of so many `others`;
    /// - when some leave, the rest is told that the rest is there, and nobody else.
    ///
    /// Says how it went.
    pub async fn end(self, nodes: &Nodes, others: usize) -> String {
        let Self { users, listener, all, bases, stop, talking } = self;
        stop.send_replace(true);
        talking.end().await;
        for user in users.iter() {
            user.until("has an answer to everything", |book| book.unanswered.is_empty()).await;
        }
        let history = History::of(&users);
        let line = history.tally(&users);
        for user in users.iter() {
            history.check(user).await;
        }
        listener.check(&all, &history.said_in(&all)).await;
        let mut devices = Vec::new();
        for user in users.iter() {
            let manner = Manner { device: "new".to_owned(), ..Manner::default() };
            let device = User::come(user.name(), bases.clone(), manner).await;
            history.check(&device).await;
            devices.push(device);
        }
        nodes.until_sessions((2 * users.len() + 1 + others) as u64).await;
        drop(devices);
        let mut users = Arc::into_inner(users).expect("the talk is over");
        users.truncate(users.len() / 2);
        let gone = until_all_see_each_other(&users).await;
        format!("{line}; who left afterwards was gone after {gone:.1?}")
    }
}

impl Listener {
    async fn begin(base: &str) -> Self {
        let logged_in = until_ok(async || login(base, LISTENER, "any", "program", "any").await).await;
        let told = watch::Sender::new(BTreeMap::<String, Vec<Push>>::new());
        let teller = told.clone();
        let mut client = Client::start(logged_in);
        let task = Task::begin(async move {
            while let Some(event) = client.next().await {
                if let Event::Message(push) = event {
                    teller.send_modify(|told| told.entry(push.conversation.clone()).or_default().push(push));
                }
            }
        });
        Self { told, _task: task }
    }

    /// It was told all that was said in a conversation that it never says anything in.
    async fn check(&self, conversation: &str, said: &BTreeMap<u64, Message>) {
        let length = |told: &BTreeMap<String, Vec<Push>>| told.get(conversation).map_or(0, Vec::len);
        let mut told = self.told.subscribe();
        let told = in_time(told.wait_for(|told| length(told) >= said.len())).await.expect("this has the sender");
        let told = told.get(conversation).into_iter().flatten().map(|push| {
            let Push { message, from, seq, body, .. } = push.clone();
            (seq, Message { message, from, body })
        });
        let said = said.iter().map(|(seq, message)| (*seq, message.clone()));
        assert_eq!(told.collect::<Vec<_>>(), said.collect::<Vec<_>>(), "what a program was told, in its order");
    }
}

impl History {
    /// What these users were told to be safe.
    fn of(users: &[User]) -> Self {
        let mut all: BTreeSet<_> = users.iter().map(|user| user.name().to_owned()).collect();
        all.insert(LISTENER.to_owned());
        let mut history = BTreeMap::new();
        for user in users {
            for stored in user.book().stored.values() {
                let members = match &stored.to {
                    Recipient::User(other) => [user.name().to_owned(), other.clone()].into(),
                    Recipient::Conversation(_) => all.clone(),
                };
                let said =
                    history.entry(stored.conversation.clone()).or_insert_with(|| (members.clone(), BTreeMap::new()));
                assert_eq!(said.0, members, "{} is one conversation", stored.conversation);
                let other = said.1.insert(stored.seq, stored.message.clone());
                assert_eq!(other, None, "{} has a place for each message; {stored:?}", stored.conversation);
            }
        }
        for (name, (_, said)) in &history {
            assert!(said.keys().copied().eq(1..=said.len() as u64), "{name} has a message in each place: {said:?}");
        }
        Self(history)
    }

    fn said_in(&self, conversation: &str) -> BTreeMap<u64, Message> {
        self.0.get(conversation).map(|(_, said)| said.clone()).unwrap_or_default()
    }

    fn of_member(&self, user: &str) -> impl Iterator<Item = (&String, &BTreeMap<u64, Message>)> {
        let of = self.0.iter().filter(move |(_, (members, _))| members.contains(user));
        of.map(|(name, (_, said))| (name, said))
    }

    /// One member has all that was said, each message in its place and in no other, once it has asked for what it lacks.
    async fn check(&self, user: &User) {
        for (name, said) in self.of_member(user.name()) {
            user.sync_until(name, said.len() as u64).await;
            assert_eq!(user.book().places[name], *said, "what {} has of {name}", user.name());
        }
        let book = user.book();
        assert_eq!(book.faults, Vec::<String>::new(), "what {} was told", user.name());
        assert_eq!(book.ended, None, "{} was not sent away", user.name());
    }

    /// How it went, before anybody asks for what it lacks.
    fn tally(&self, users: &[User]) -> String {
        let (mut came, mut expected, mut repeated, mut absences) = (0, 0, 0, Vec::new());
        for user in users {
            let book = user.book();
            for (name, said) in self.of_member(user.name()) {
                expected += said.len();
                came += book.places.get(name).map_or(0, BTreeMap::len).min(said.len());
            }
            repeated += book.repeated;
            absences.extend(book.absences.iter().copied());
        }
        let messages: usize = self.0.values().map(|(_, said)| said.len()).sum();
        format!(
            "{messages} messages in {} conversations, 0 lost, 0 told twice; {came} of {expected} had come by the end, {repeated} \
             came a second time; {} times on no node, for {:.1?} at most",
            self.0.len(),
            absences.len(),
            absences.iter().max().unwrap_or(&Duration::ZERO)
        )
    }
}

/// Lets all say something to one other and now and then to all, until it is enough.
async fn talk(users: Arc<Vec<User>>, all: String, stop: watch::Receiver<bool>) {
    let mut round = 0;
    while !*stop.borrow() {
        round += 1;
        for (number, user) in users.iter().enumerate() {
            if user.book().unanswered.len() >= UNANSWERED {
                continue;
            }
            let other = &users[(number + 1 + round % (users.len() - 1)) % users.len()];
            let to = match round % 4 {
                0 => Recipient::Conversation(all.clone()),
                _ => Recipient::User(other.name().to_owned()),
            };
            user.send(to, "hello");
        }
        sleep(PAUSE).await;
    }
}

/// Waits until an observer is not told any more that any of these is there; says how long it took.
///
/// # Panics
///
/// When it takes very long.
pub async fn until_gone(observer: &User, ghosts: &BTreeSet<String>) -> Duration {
    until_there(observer, |there| there.is_disjoint(ghosts)).await
}

/// Waits until each of the users of a talk who are left is told that the others are there, and the one who listens, and nobody else.
async fn until_all_see_each_other(users: &[User]) -> Duration {
    let begun = Instant::now();
    for user in users {
        let others = users.iter().map(User::name).filter(|name| *name != user.name());
        let others: BTreeSet<_> = others.chain([LISTENER]).map(str::to_owned).collect();
        until_there(user, |there| *there == others).await;
    }
    begun.elapsed()
}

async fn until_there(observer: &User, wanted: impl Fn(&BTreeSet<String>) -> bool) -> Duration {
    let begun = Instant::now();
    loop {
        let there = observer.who_is_there().await;
        if wanted(&there) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < LONG, "{} is still told that these are there: {there:?}", observer.name());
        sleep(Duration::from_millis(150)).await;
    }
}

/// The user whose client is the one for programs.
const LISTENER: &str = "listener";
/// What a user says without an answer.
const UNANSWERED: usize = 8;
/// Between two messages of a user; a node allows 20 a second.
const PAUSE: Duration = Duration::from_millis(250);
/// Far more than anything takes.
const LONG: Duration = Duration::from_secs(60);
