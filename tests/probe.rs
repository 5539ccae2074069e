//! [`Probe`]: the service `test.Probe:1.0`, whose handlers do what a test tells them and say what became of them.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use rpc_core::{Context, rpc_service};
use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// What tests call.
#[rpc_service(name = "test.Probe", version = "1.0")]
pub trait Probing {
    /// Gives `text` back.
    async fn echo(&self, text: String) -> String;

    /// Gives `text` back, and may be called again.
    #[rpc(idempotent)]
    async fn again(&self, text: String) -> String;

    /// Fails with the service's own error.
    async fn fail(&self, reason: String) -> Result<String, ProbeError>;

    /// Notes `text` and answers nothing.
    #[rpc(one_way)]
    async fn tell(&self, text: String);

    /// Says what the handler knows of its call.
    async fn context(&self) -> Seen;

    /// Waits until [`Probe::release`], then gives `key` back.
    async fn hold(&self, key: u64) -> u64;

    /// [`hold`](Self::hold), and may be called again.
    #[rpc(idempotent)]
    async fn hold_again(&self, key: u64) -> u64;

    /// [`hold`](Self::hold), and runs once, however often it is sent.
    #[rpc(once)]
    async fn hold_once(&self, key: u64) -> u64;

    /// [`hold`](Self::hold), with a timeout of its own.
    #[rpc(timeout = "50ms")]
    async fn hold_briefly(&self, key: u64) -> u64;

    /// Never ends, but starts something that ends when the call is given up.
    async fn watch_over(&self, key: u64);

    /// Panics before it waits for anything, or after.
    async fn panic(&self, at_once: bool);

    /// Returns what panics while it is serialized.
    async fn explode(&self) -> Explosive;

    /// Returns as many bytes.
    async fn large(&self, length: u64) -> String;
}

/// The error of [`Probing::fail`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct ProbeError {
    /// What the caller asked for.
    pub reason: String,
}

/// What a handler knows of its call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Who calls.
    pub peer: Option<SocketAddr>,
    /// Where the caller reached the server.
    pub local_address: Option<SocketAddr>,
    /// Who the caller has proved to be, in words.
    pub identity: String,
    /// How long the caller goes on waiting.
    pub remaining: Option<Duration>,
    /// The pairs that came with the call.
    pub metadata: Vec<(String, Vec<u8>)>,
}

/// Panics while it is serialized.
#[derive(Debug, Deserialize)]
pub struct Explosive;

impl Serialize for Explosive {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("it explodes, as it should")
    }
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The handler of a held call began.
    Began(u64),
    /// The handler of a held call got to its end.
    Ended(u64),
    /// The handler of a held call was dropped before its end.
    Dropped(u64),
    /// What [`Probing::watch_over`] started learned that nobody waits any more.
    Cancelled(u64),
    /// [`Probing::tell`] was told this.
    Told(String),
    /// [`Probing::echo`] or [`Probing::again`] gave this back.
    Echoed(String),
}

/// Serves `test.Probe:1.0`, and lets a test steer the handlers and see what became of them. Clones are the same.
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
    /// A service that lives as long as calls need it; this stays with the test.
    pub fn server(&self) -> ProbingServer<Self> {
        ProbingServer::new(self.clone())
    }

    /// Lets the handlers that hold this key end, those to come as well.
    pub fn release(&self, key: u64) {
        self.0.released.send_modify(|released| _ = released.keys.insert(key));
    }

    /// Lets all handlers that hold or will hold a key end.
    pub fn release_all(&self) {
        self.0.released.send_modify(|released| released.all = true);
    }

    /// What happened so far.
    pub fn events(&self) -> Vec<Event> {
        self.0.events.borrow().clone()
    }

    /// How often this happened so far.
    pub fn count(&self, happened: impl Fn(&Event) -> bool) -> usize {
        self.0.events.borrow().iter().filter(|event| happened(event)).count()
    }

    /// Waits until this has happened.
    pub async fn until(&self, event: Event) {
        self.until_all(&[event]).await;
    }

    /// Waits until all of this has happened.
    ///
    /// # Panics
    ///
    /// When it does not happen for a long time.
    pub async fn until_all(&self, events: &[Event]) {
        self.until_true(|happened| events.iter().all(|event| happened.contains(event))).await;
    }

    /// Waits until `wanted` is true of what happened.
    ///
    /// # Panics
    ///
    /// When it does not become true for a long time.
    pub async fn until_true(&self, wanted: impl Fn(&[Event]) -> bool) {
        let mut events = self.0.events.subscribe();
        let waited = crate::in_time(events.wait_for(|happened| wanted(happened))).await;
        drop(waited.expect("the probe lives"));
    }

    fn note(&self, event: Event) {
        self.0.events.send_modify(|events| events.push(event));
    }

    async fn held(&self, key: u64) -> u64 {
        let mut fate = Fate { probe: self, key, ended: false };
        self.note(Event::Began(key));
        let mut released = self.0.released.subscribe();
        // The sender lives in `self`.
        let _ = released.wait_for(|released| released.all || released.keys.contains(&key)).await;
        fate.ended = true;
        key
    }
}

/// Notes how a handler ended.
struct Fate<'a> {
    probe: &'a Probe,
    key: u64,
    ended: bool,
}

impl Drop for Fate<'_> {
    fn drop(&mut self) {
        self.probe.note(if self.ended { Event::Ended(self.key) } else { Event::Dropped(self.key) });
    }
}

impl Probing for Probe {
    async fn echo(&self, text: String) -> String {
        self.note(Event::Echoed(text.clone()));
        text
    }

    async fn again(&self, text: String) -> String {
        self.echo(text).await
    }

    async fn fail(&self, reason: String) -> Result<String, ProbeError> {
        Err(ProbeError { reason })
    }

    async fn tell(&self, text: String) {
        self.note(Event::Told(text));
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
            probe.note(Event::Cancelled(key));
        });
        self.note(Event::Began(key));
        std::future::pending().await
    }

    async fn panic(&self, at_once: bool) {
        if !at_once {
            tokio::task::yield_now().await;
        }
        panic!("it panics, as it should")
    }

    async fn explode(&self) -> Explosive {
        Explosive
    }

    async fn large(&self, length: u64) -> String {
        "x".repeat(usize::try_from(length).expect("a length fits"))
    }
}

impl Seen {
    /// The value that came under `key`, as text.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let (_, value) = self.metadata.iter().find(|(known, _)| known == key)?;
        std::str::from_utf8(value).ok()
    }
}
