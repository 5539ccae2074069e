//! [`User`]: a client of an IM cluster that comes back by itself, and writes down all that it is told.

mod book;
mod driver;

pub use book::{Book, Message, Stored};

use std::{collections::BTreeSet, time::Duration};

use rpc_im::envelope::{Create, Recipient};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{Task, in_time};
use driver::{Driver, Wish};

/// One device of one user, connected to some node for as long as there is one. What it is told is in its [`Book`].
///
/// It is written apart from `rpc_im::client::Client`, which hides from its user what comes twice or out of order.
pub struct User {
    name: String,
    wishes: mpsc::Sender<Wish>,
    book: watch::Sender<Book>,
    _task: Task<()>,
}

/// Where a user begins and how it behaves.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Which of the user's devices it is.
    pub device: String,
    /// What kind of device it is.
    pub platform: String,
    /// The node that it comes to first; without, the gate says.
    pub first: Option<String>,
    /// How long a node may say nothing, also not when it is asked, before it is left.
    pub silence: Duration,
}

impl Default for Manner {
    fn default() -> Self {
        let (device, platform) = ("browser".to_owned(), "web".to_owned());
        Self { device, platform, first: None, silence: Duration::from_secs(3) }
    }
}

impl Manner {
    /// A user that comes to this node first.
    pub fn at(node: impl Into<String>) -> Self {
        Self { first: Some(node.into()), ..Self::default() }
    }
}

impl User {
    /// Begins a user that finds nodes at any of `bases`.
    pub fn begin(name: &str, bases: Vec<String>, manner: Manner) -> Self {
        let (wishes, asked) = mpsc::channel(WISHES);
        let book = watch::Sender::new(Book::default());
        let driver = Driver { name: name.to_owned(), bases, manner, book: book.clone() };
        Self { name: name.to_owned(), wishes, book, _task: Task::begin(driver.run(asked)) }
    }

    /// The same, once it is on a node.
    pub async fn come(name: &str, bases: Vec<String>, manner: Manner) -> Self {
        let user = Self::begin(name, bases, manner);
        user.until("is on a node", |book| book.node.is_some()).await;
        user
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was told.
    pub fn book(&self) -> watch::Ref<'_, Book> {
        self.book.borrow()
    }

    /// Says something, whose text nobody says a second time; it is said again until it is safe. Gives its id.
    pub fn send(&self, to: Recipient, text: &str) -> u64 {
        let mut id = 0;
        self.book.send_modify(|book| {
            book.next_id += 1;
            id = book.next_id;
            let body = format!("{}/{id}: {text}", self.name);
            book.unanswered.insert(id, (to, body));
        });
        self.wish(Wish::Send(id));
        id
    }

    /// Says something to a user, and waits until it is safe.
    pub async fn tell(&self, user: &str, text: &str) -> Stored {
        let id = self.send(Recipient::User(user.to_owned()), text);
        self.until("is told that its message is safe", |book| book.stored.contains_key(&id)).await;
        self.book().stored[&id].clone()
    }

    /// Begins a conversation with these; gives its name.
    pub async fn create(&self, members: &[String]) -> String {
        let mut id = 0;
        self.book.send_modify(|book| {
            book.next_id += 1;
            id = book.next_id;
        });
        let create = Create { id: id.to_string(), name: "all".to_owned(), members: members.to_vec() };
        in_time(async {
            loop {
                self.wish(Wish::Create(create.clone()));
                let is_there = self.changed(|book| book.created.contains_key(&id));
                if timeout(Duration::from_secs(2), is_there).await.is_ok() {
                    return self.book().created[&id].clone();
                }
            }
        })
        .await
    }

    /// Asks for what it lacks until it has everything of a conversation up to this place.
    pub async fn sync_until(&self, conversation: &str, last: u64) {
        let whole = |book: &Book| book.cursor(conversation) >= last;
        let asked = async {
            loop {
                if timeout(Duration::from_millis(1500), self.changed(whole)).await.is_ok() {
                    return;
                }
                self.wish(Wish::Sync);
            }
        };
        if timeout(LONG, asked).await.is_err() {
            let book = self.book();
            let places: Vec<_> = book.places.get(conversation).into_iter().flatten().map(|(seq, _)| *seq).collect();
            panic!(
                "{} has {places:?} of the {last} of {conversation}, on {:?}, ended {:?}, refused {} times",
                self.name, book.node, book.ended, book.refusals
            );
        }
    }

    /// Asks who is there of those it talks with.
    pub async fn who_is_there(&self) -> BTreeSet<String> {
        loop {
            let mut before = (0, 0);
            self.book.send_modify(|book| {
                book.online.clear();
                before = (book.logins, book.refusals);
            });
            self.wish(Wish::Sync);
            // A node does what it is asked for in order, so the answer to this comes after all of the sync.
            self.tell(&self.name, "is that all?").await;
            let book = self.book();
            if before == (book.logins, book.refusals) {
                return book.online.clone();
            }
        }
    }

    /// Waits until this is so.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Book) -> bool) {
        if timeout(LONG, self.changed(wanted)).await.is_err() {
            let book = self.book();
            panic!(
                "{} is not so far that it {what}: on {:?}, ended {:?}, {} unanswered, faults {:?}",
                self.name,
                book.node,
                book.ended,
                book.unanswered.len(),
                book.faults
            );
        }
    }

    async fn changed(&self, wanted: impl Fn(&Book) -> bool) {
        let mut changes = self.book.subscribe();
        drop(changes.wait_for(|book| wanted(book)).await.expect("this has the sender"));
    }

    fn wish(&self, wish: Wish) {
        // One that has ended says so in its book, and a message is in it until it is safe.
        let _ = self.wishes.try_send(wish);
    }
}

/// What waits while a user is on no node.
const WISHES: usize = 256;
/// Far more than anything takes.
const LONG: Duration = Duration::from_secs(60);
