//! [`Sessions`]: the sessions of this node.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    directory::Entry,
    envelope::{Kick, ServerFrame},
    identity::SessionId,
    session::outbox::Outbox,
    session::queue::{Queue, Refusal},
};

/// The sessions of this node, by id and by user.
#[derive(Default)]
pub(crate) struct Sessions {
    maps: RwLock<Maps>,
}

#[derive(Default)]
struct Maps {
    by_id: HashMap<SessionId, Arc<Local>>,
    by_user: HashMap<String, Vec<SessionId>>,
}

/// A session of this node.
pub(crate) struct Local {
    pub(crate) entry: Entry,
    pub(crate) sink: Sink,
    /// Whether the directory has let it in.
    entered: AtomicBool,
}

/// Where what is for a session goes.
pub(crate) enum Sink {
    /// A client.
    Client(Arc<Outbox>),
    /// One side of a pairing room.
    Room(Arc<Queue<Bytes>>),
}

/// What is delivered to a session.
#[derive(Clone)]
pub(crate) enum Payload {
    /// For a client.
    Frame(Arc<ServerFrame>),
    /// For the side of a pairing room: nobody looks into it.
    Opaque(Bytes),
}

/// Why a session did not get something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fault {
    /// It is not here, or over.
    NoSession,
    /// This node was started again since it was looked up.
    StaleEpoch,
    /// What waits for it is at its bound.
    Full,
}

impl Sessions {
    pub(crate) fn insert(&self, entry: Entry, sink: Sink) -> Arc<Local> {
        let local = Arc::new(Local { entry, sink, entered: AtomicBool::new(false) });
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        maps.by_user.entry(local.entry.user.clone()).or_default().push(local.entry.session);
        maps.by_id.insert(local.entry.session, Arc::clone(&local));
        local
    }

    pub(crate) fn remove(&self, session: SessionId) -> Option<Arc<Local>> {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        let local = maps.by_id.remove(&session)?;
        let ids = maps.by_user.get_mut(&local.entry.user).expect("both maps have the same sessions");
        ids.retain(|id| *id != session);
        if ids.is_empty() {
            maps.by_user.remove(&local.entry.user);
        }
        Some(local)
    }

    pub(crate) fn len(&self) -> usize {
        self.read(|maps| maps.by_id.len())
    }

    pub(crate) fn deliver(&self, session: SessionId, payload: &Payload) -> Result<(), Fault> {
        let local = self.read(|maps| maps.by_id.get(&session).cloned()).ok_or(Fault::NoSession)?;
        match (&local.sink, payload) {
            (Sink::Client(outbox), Payload::Frame(frame)) => {
                outbox.push(Arc::clone(frame)).then_some(()).ok_or(Fault::NoSession)
            }
            (Sink::Room(queue), Payload::Opaque(bytes)) => {
                queue.push(bytes.clone(), bytes.len()).map_err(|refusal| match refusal {
                    Refusal::Full => Fault::Full,
                    Refusal::Closed => Fault::NoSession,
                })
            }
            _ => Err(Fault::NoSession),
        }
    }

    /// Ends a session: its client is told why, and its outbound ends. Its owner takes it out.
    pub(crate) fn kick(&self, session: SessionId, reason: &str) -> bool {
        let Some(local) = self.read(|maps| maps.by_id.get(&session).cloned()) else { return false };
        local.close(Some(reason));
        true
    }

    pub(crate) fn has(&self, session: SessionId) -> bool {
        self.read(|maps| maps.by_id.contains_key(&session))
    }

    /// What the directory is to have of these users.
    pub(crate) fn entries_of<'a>(&self, users: impl IntoIterator<Item = &'a String>) -> Vec<Entry> {
        self.read(|maps| {
            let ids = users.into_iter().filter_map(|user| maps.by_user.get(user)).flatten();
            ids.map(|id| maps.by_id[id].entry.clone()).collect()
        })
    }

    /// What the directory is to have of all that it has let in.
    pub(crate) fn entered(&self) -> Vec<Entry> {
        self.all().iter().filter(|local| local.is_entered()).map(|local| local.entry.clone()).collect()
    }

    /// The directory has let a session in.
    pub(crate) fn set_entered(&self, session: SessionId) {
        if let Some(local) = self.read(|maps| maps.by_id.get(&session).cloned()) {
            local.entered.store(true, Ordering::Release);
        }
    }

    /// Says something to all clients, so many a second, because each of them will ask for something then.
    pub(crate) async fn tell_clients(&self, frame: ServerFrame, rate: u32) {
        let frame = Arc::new(frame);
        for some in self.all().chunks((rate as usize / TICKS).max(1)) {
            for local in some {
                if let Sink::Client(outbox) = &local.sink {
                    outbox.push(Arc::clone(&frame));
                }
            }
            sleep(Duration::from_secs(1) / TICKS as u32).await;
        }
    }

    /// Ends all, without a reason.
    pub(crate) fn close_all(&self) {
        self.all().iter().for_each(|local| local.close(None));
    }

    /// All, for who has something to say to each of them.
    pub(crate) fn all(&self) -> Vec<Arc<Local>> {
        self.read(|maps| maps.by_id.values().cloned().collect())
    }

    fn read<R>(&self, read: impl FnOnce(&Maps) -> R) -> R {
        read(&self.maps.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Local {
    /// Whether the directory has let it in. Before that it may not be entered for it again: where it lost to another one, it would
    /// end, and when it was let in after all, the other one would too.
    pub(crate) fn is_entered(&self) -> bool {
        self.entered.load(Ordering::Acquire)
    }

    /// Ends it, saying why where there is a reason.
    pub(crate) fn close(&self, reason: Option<&str>) {
        match &self.sink {
            Sink::Client(outbox) => {
                if let Some(reason) = reason {
                    outbox.push(Arc::new(ServerFrame::Kick(Kick { reason: reason.to_owned() })));
                }
                outbox.close();
            }
            Sink::Room(queue) => queue.close(),
        }
    }
}

/// Parts of a second in which clients are told something.
const TICKS: usize = 10;
