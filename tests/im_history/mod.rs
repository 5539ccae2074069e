//! A history of everything that clients of an IM cluster observe, and the checks of its guarantees, in the manner of
//! Jepsen.
//!
//! | topic | module |
//! |---|---|
//! | the checks | `check` |
//! | a client that records its sends, pushes and sessions | `device` |
//! | a new device that reads everything back | `reader` |
//! | users that chat and log in concurrently while a test injects faults | `workload` |

mod check;
mod device;
mod reader;
mod workload;

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub use self::{
    check::{Violation, check, open_twice, undelivered},
    workload::{Node, Report, Scale, Workload},
};

/// A place in the history of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The conversation.
    pub conversation: String,
    /// Its incarnation.
    pub incarnation: u64,
    /// The sequence number.
    pub seq: u64,
}

/// An observation of a client. Each message has a body of its own, which identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client sends a message to `members`, among them itself; a retry is another invocation.
    Invoked {
        /// The message.
        body: String,
        /// The users of the conversation.
        members: BTreeSet<String>,
    },
    /// A node acknowledged a message of a client.
    Acknowledged {
        /// The client.
        client: u32,
        /// The message.
        body: String,
        /// The place at which it is stored.
        place: Place,
    },
    /// A node rejected a message for good.
    Failed {
        /// The message.
        body: String,
    },
    /// A node could not store a message, or the connection ended: it may be stored.
    Unknown {
        /// The message.
        body: String,
    },
    /// A client has a session.
    Opened {
        /// The client.
        client: u32,
        /// Its user.
        user: String,
        /// Its device, which other clients may share.
        device: String,
    },
    /// The session of a client has ended.
    Closed {
        /// The client.
        client: u32,
    },
    /// A client received a message, as a push or in the answer to a sync.
    Pushed {
        /// The client.
        client: u32,
        /// The message.
        body: String,
        /// Its place.
        place: Place,
    },
    /// A node told a client that it may have missed messages.
    Lagging {
        /// The client.
        client: u32,
    },
}

/// The conversations and messages that a new device of a user received, in the order of their arrival.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Read {
    /// The user.
    pub user: String,
    /// Each conversation with its last sequence number.
    pub conversations: Vec<(String, u64)>,
    /// Each message with its place.
    pub messages: Vec<(Place, String)>,
}

/// The observations of all clients, in the order in which they were made.
#[derive(Debug)]
pub struct History {
    start: Instant,
    events: Mutex<Vec<(Duration, Event)>>,
}

impl History {
    /// Creates an empty history.
    pub fn new() -> Self {
        Self { start: Instant::now(), events: Mutex::default() }
    }

    /// Adds an observation of this moment.
    pub fn record(&self, event: Event) {
        let mut events = self.lock();
        // Under the lock, so that the times grow.
        let at = self.start.elapsed();
        events.push((at, event));
    }

    /// Calls `read` with all observations and their times.
    pub fn read<T>(&self, read: impl FnOnce(&[(Duration, Event)]) -> T) -> T {
        read(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Duration, Event)>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}
