//! [`LocalSessions`]: the table of this node's sessions.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{
    outbox::Outbox,
    queue::{PushError, Queue},
};
use crate::{
    directory::SessionEntry,
    envelope::{Kick, ServerFrame},
    identity::SessionId,
};

/// The table of this node's sessions, by id and by user.
#[derive(Default)]
pub(crate) struct LocalSessions {
    maps: RwLock<Maps>,
}

#[derive(Default)]
struct Maps {
    by_id: HashMap<SessionId, Arc<LocalSession>>,
    by_user: HashMap<String, Vec<SessionId>>,
}

/// A session of this node.
pub(crate) struct LocalSession {
    pub(crate) entry: SessionEntry,
    sink: Sink,
    /// Whether the directory has accepted the session.
    registered: AtomicBool,
}

/// The queue for payloads of a session.
pub(crate) enum Sink {
    /// The queue of a client.
    Client(Arc<Outbox>),
    /// The queue of one side of a pairing room.
    Room(Arc<Queue<Bytes>>),
}

/// A payload for a session.
#[derive(Clone)]
pub(crate) enum Payload {
    /// A frame for a client.
    Frame(Arc<ServerFrame>),
    /// Bytes for one side of a pairing room, which nodes do not interpret.
    Opaque(Bytes),
}

/// The reason why a session did not receive a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeliveryError {
    /// The node does not have the session, or the session has ended.
    NoSession,
    /// The session's queue or the queue to its node is full.
    Full,
}

impl LocalSessions {
    pub(crate) fn insert(&self, entry: SessionEntry, sink: Sink) -> Arc<LocalSession> {
        let session = Arc::new(LocalSession { entry, sink, registered: AtomicBool::new(false) });
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        maps.by_user.entry(session.entry.user.clone()).or_default().push(session.entry.session);
        maps.by_id.insert(session.entry.session, Arc::clone(&session));
        session
    }

    pub(crate) fn remove(&self, id: SessionId) -> Option<Arc<LocalSession>> {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        let session = maps.by_id.remove(&id)?;
        let ids = maps.by_user.get_mut(&session.entry.user).expect("both maps have the same sessions");
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            maps.by_user.remove(&session.entry.user);
        }
        Some(session)
    }

    pub(crate) fn len(&self) -> usize {
        self.read(|maps| maps.by_id.len())
    }

    /// Queues a payload for a session.
    pub(crate) fn deliver(&self, id: SessionId, payload: &Payload) -> Result<(), DeliveryError> {
        let session = self.get(id).ok_or(DeliveryError::NoSession)?;
        match (&session.sink, payload) {
            (Sink::Client(outbox), Payload::Frame(frame)) => {
                outbox.push(Arc::clone(frame)).then_some(()).ok_or(DeliveryError::NoSession)
            }
            (Sink::Room(queue), Payload::Opaque(bytes)) => {
                queue.push(bytes.clone(), bytes.len()).map_err(|error| match error {
                    PushError::Full => DeliveryError::Full,
                    PushError::Closed => DeliveryError::NoSession,
                })
            }
            _ => Err(DeliveryError::NoSession),
        }
    }

    /// Ends a session with a `kick` frame; returns whether it exists.
    ///
    /// The session's owner removes it from the table.
    pub(crate) fn kick(&self, id: SessionId, reason: &str) -> bool {
        let Some(session) = self.get(id) else { return false };
        session.close(Some(reason));
        true
    }

    pub(crate) fn contains(&self, id: SessionId) -> bool {
        self.read(|maps| maps.by_id.contains_key(&id))
    }

    /// Returns the sessions of these users.
    pub(crate) fn ids_of<'a>(&self, users: impl IntoIterator<Item = &'a String>) -> Vec<SessionId> {
        self.read(|maps| users.into_iter().filter_map(|user| maps.by_user.get(user)).flatten().copied().collect())
    }

    /// Returns the sessions of these members.
    pub(crate) fn ids_of_members(&self, members: &HashSet<String>) -> Vec<SessionId> {
        self.read(|maps| {
            if members.len() <= maps.by_user.len() {
                return members.iter().filter_map(|user| maps.by_user.get(user)).flatten().copied().collect();
            }
            let of_members = maps.by_user.iter().filter(|(user, _)| members.contains(*user));
            of_members.flat_map(|(_, ids)| ids).copied().collect()
        })
    }

    /// Returns the directory entries of all registered sessions.
    pub(crate) fn registered(&self) -> Vec<SessionEntry> {
        self.all().iter().filter(|session| session.is_registered()).map(|session| session.entry.clone()).collect()
    }

    /// Marks a session as accepted by the directory.
    pub(crate) fn set_registered(&self, id: SessionId) {
        if let Some(session) = self.get(id) {
            session.registered.store(true, Ordering::Release);
        }
    }

    /// Sends a frame to all clients, `rate` of them per second, because each client reacts with requests.
    pub(crate) async fn send_to_clients(&self, frame: ServerFrame, rate: u32) {
        let frame = Arc::new(frame);
        for chunk in self.all().chunks((rate as usize / TICKS).max(1)) {
            for session in chunk {
                if let Sink::Client(outbox) = &session.sink {
                    outbox.push(Arc::clone(&frame));
                }
            }
            sleep(Duration::from_secs(1) / TICKS as u32).await;
        }
    }

    /// Ends all sessions without a `kick` frame.
    pub(crate) fn close_all(&self) {
        self.all().iter().for_each(|session| session.close(None));
    }

    pub(crate) fn all(&self) -> Vec<Arc<LocalSession>> {
        self.read(|maps| maps.by_id.values().cloned().collect())
    }

    fn get(&self, id: SessionId) -> Option<Arc<LocalSession>> {
        self.read(|maps| maps.by_id.get(&id).cloned())
    }

    fn read<R>(&self, read: impl FnOnce(&Maps) -> R) -> R {
        read(&self.maps.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LocalSession {
    /// Returns whether the directory has accepted the session.
    ///
    /// The node does not restore an unregistered session after a change of the directory: if it lost there against
    /// another session it would end, and if its pending claim succeeded afterwards, the other session would end too.
    pub(crate) fn is_registered(&self) -> bool {
        self.registered.load(Ordering::Acquire)
    }

    /// Ends the session, with a `kick` frame if there is a reason.
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

/// The number of steps per second in which clients are notified.
const TICKS: usize = 10;
