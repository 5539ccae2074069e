//! [`Probe`]: the service `test.Probe:1.0`, whose handlers a test controls and which records their events.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use rpc_core::{Context, rpc_service};
use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// The service that tests call.
#[rpc_service(name = "test.Probe", version = "1.0")]
pub trait Probing {
    /// Returns `text`.
    async fn echo(&self, text: String) -> String;

    /// Returns `text`; idempotent.
    #[rpc(idempotent)]
    async fn again(&self, text: String) -> String;

    /// Fails with the service's own error.
    async fn fail(&self, reason: String) -> Result<String, ProbeError>;

    /// Records `text` and sends no answer.
    #[rpc(one_way)]
    async fn tell(&self, text: String);

    /// Returns the contents of the handler's context.
    async fn context(&self) -> Seen;

    /// Waits for [`Probe::release`] and returns `key`.
    async fn hold(&self, key: u64) -> u64;

    /// Like [`hold`](Self::hold), but idempotent.
    #[rpc(idempotent)]
    async fn hold_again(&self, key: u64) -> u64;

    /// Like [`hold`](Self::hold), as a once call: the server executes it once for any number of attempts.
    #[rpc(once)]
    async fn hold_once(&self, key: u64) -> u64;

    /// Like [`hold`](Self::hold), with a method timeout of 50 ms.
    #[rpc(timeout = "50ms")]
    async fn hold_briefly(&self, key: u64) -> u64;

    /// Never returns, and starts a task that records the cancellation of the call.
    async fn watch_over(&self, key: u64);

    /// Panics on its first poll (`at_once`) or on a later one.
    async fn panic(&self, at_once: bool);

    /// Returns a value that panics during serialization.
    async fn explode(&self) -> Explosive;

    /// Returns a text of `length` bytes.
    async fn large(&self, length: u64) -> String;
}

/// The error of [`Probing::fail`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct ProbeError {
    /// The reason that the caller passed.
    pub reason: String,
}

/// The contents of a handler's context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The address of the caller.
    pub peer: Option<SocketAddr>,
    /// The server's address on the connection.
    pub local_address: Option<SocketAddr>,
    /// The proved identity of the caller, as text.
    pub identity: String,
    /// The time until the deadline of the call.
    pub remaining: Option<Duration>,
    /// The metadata of the call.
    pub metadata: Vec<(String, Vec<u8>)>,
}

/// A value that panics during serialization.
#[derive(Debug, Deserialize)]
pub struct Explosive;

impl Serialize for Explosive {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("intended panic in Serialize")
    }
}

/// An event in the life of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The handler of a held call started.
    Began(u64),
    /// The handler of a held call returned.
    Ended(u64),
    /// The server dropped the handler of a held call before it returned.
    Dropped(u64),
    /// The task that [`Probing::watch_over`] started observed the cancellation of its call.
    Cancelled(u64),
    /// [`Probing::tell`] received this text.
    Received(String),
    /// [`Probing::echo`] or [`Probing::again`] returned this text.
    Echoed(String),
}

/// Serves `test.Probe:1.0`: a test releases its handlers and reads their events. Clones share their state.
#[derive(Debug, Clone, Default)]
pub struct Probe(Arc<State>);

#[derive(Debug, Default)]
struct State {
    events: watch::Sender<Vec<Event>>,
    released: watch::Sender<Released>,
    helpers: TaskTracker,
}

#[derive(Debug, Default)]
struct Released {
    keys: BTreeSet<u64>,
    all: bool,
}

impl Probe {
    /// Returns a service that shares its state with this probe.
    pub fn server(&self) -> ProbingServer<Self> {
        ProbingServer::new(self.clone())
    }

    /// Lets current and future handlers that hold `key` return.
    pub fn release(&self, key: u64) {
        self.0.released.send_modify(|released| _ = released.keys.insert(key));
    }

    /// Lets all current and future handlers that hold a key return.
    pub fn release_all(&self) {
        self.0.released.send_modify(|released| released.all = true);
    }

    /// Returns the events so far.
    pub fn events(&self) -> Vec<Event> {
        self.0.events.borrow().clone()
    }

    /// Returns the number of events so far that `matches` accepts.
    pub fn count(&self, matches: impl Fn(&Event) -> bool) -> usize {
        self.0.events.borrow().iter().filter(|event| matches(event)).count()
    }

    /// Waits for `event`.
    ///
    /// # Panics
    ///
    /// Panics if it does not occur within the limit of [`in_time`](crate::in_time).
    pub async fn until(&self, event: Event) {
        self.until_all(&[event]).await;
    }

    /// Waits for all of `events`.
    ///
    /// # Panics
    ///
    /// Panics if one of them does not occur within the limit of [`in_time`](crate::in_time).
    pub async fn until_all(&self, events: &[Event]) {
        self.until_true(|occurred| events.iter().all(|event| occurred.contains(event))).await;
    }

    /// Waits until `wanted` accepts the events so far.
    ///
    /// # Panics
    ///
    /// Panics if it does not within the limit of [`in_time`](crate::in_time).
    pub async fn until_true(&self, wanted: impl Fn(&[Event]) -> bool) {
        let mut events = self.0.events.subscribe();
        let waited = crate::in_time(events.wait_for(|events| wanted(events))).await;
        drop(waited.expect("the probe owns the sender"));
    }

    fn record(&self, event: Event) {
        self.0.events.send_modify(|events| events.push(event));
    }

    async fn held(&self, key: u64) -> u64 {
        let mut completion = Completion { probe: self, key, ended: false };
        self.record(Event::Began(key));
        let mut released = self.0.released.subscribe();
        // Cannot fail: `self` owns the sender.
        let _ = released.wait_for(|released| released.all || released.keys.contains(&key)).await;
        completion.ended = true;
        key
    }
}

/// Records on drop whether a handler returned.
struct Completion<'a> {
    probe: &'a Probe,
    key: u64,
    ended: bool,
}

impl Drop for Completion<'_> {
    fn drop(&mut self) {
        self.probe.record(if self.ended { Event::Ended(self.key) } else { Event::Dropped(self.key) });
    }
}

impl Probing for Probe {
    async fn echo(&self, text: String) -> String {
        self.record(Event::Echoed(text.clone()));
        text
    }

    async fn again(&self, text: String) -> String {
        self.echo(text).await
    }

    async fn fail(&self, reason: String) -> Result<String, ProbeError> {
        Err(ProbeError { reason })
    }

    async fn tell(&self, text: String) {
        self.record(Event::Received(text));
    }

    async fn context(&self) -> Seen {
        let context = Context::current().expect("a handler has a context");
        let peer = context.peer();
        Seen {
            peer: peer.address,
            local_address: peer.local_address,
            identity: peer.identity().to_string(),
            remaining: context.remaining(),
            metadata: context.metadata().iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        }
    }

    async fn hold(&self, key: u64) -> u64 {
        self.held(key).await
    }

    async fn hold_again(&self, key: u64) -> u64 {
        self.held(key).await
    }

    async fn hold_once(&self, key: u64) -> u64 {
        self.held(key).await
    }

    async fn hold_briefly(&self, key: u64) -> u64 {
        self.held(key).await
    }

    async fn watch_over(&self, key: u64) {
        let (probe, context) = (self.clone(), Context::current().expect("a handler has a context"));
        self.0.helpers.spawn(async move {
            context.cancelled().await;
            probe.record(Event::Cancelled(key));
        });
        self.record(Event::Began(key));
        std::future::pending().await
    }

    async fn panic(&self, at_once: bool) {
        if !at_once {
            tokio::task::yield_now().await;
        }
        panic!("intended panic in a handler")
    }

    async fn explode(&self) -> Explosive {
        Explosive
    }

    async fn large(&self, length: u64) -> String {
        "x".repeat(usize::try_from(length).expect("the length fits into usize"))
    }
}

impl Seen {
    /// Returns the metadata value of `key` if it is text.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let (_, value) = self.metadata.iter().find(|(known, _)| known == key)?;
        std::str::from_utf8(value).ok()
    }
}
