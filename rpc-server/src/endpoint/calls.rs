//! [`Calls`]: the callers of one connection of an endpoint, and their sessions.

use std::{
    hash::BuildHasher as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use rpc_core::{Code, Error, Peer, ProvedToken, deadline_after};
use tokio::{sync::SetOnce, task::JoinSet, time::Instant};

use super::{
    request::{EndpointReply, EndpointRequest},
    session::{NotSent, Session, UnreadBytes},
};
use crate::{
    connection::{Connection, Shared, varied_age},
    counters::ServerState,
    credentials::Proved,
};

/// The callers of one connection of an endpoint. Each token that the connection presents has a session.
pub(super) struct Calls {
    shared: Arc<Shared>,
    peer: Peer,
    unread: Arc<UnreadBytes>,
    state: Mutex<State>,
    draining: SetOnce<()>,
}

struct State {
    /// The certificate that the peer has proved, without a token.
    proved: Proved,
    /// The sessions that have not ended, the one that was used last at the end.
    sessions: Vec<Arc<Session>>,
    /// The tasks of the sessions, and of the items that calls send.
    tasks: JoinSet<()>,
    aged_at: Instant,
    drained_at: Option<Instant>,
}

/// The times at which a connection is checked again, and at which it ends.
pub(super) struct Over {
    pub(super) next_check: Option<Instant>,
    pub(super) ends_at: Option<Instant>,
}

impl Calls {
    pub(super) fn new(shared: Arc<Shared>, peer: Peer, proved: Proved) -> Arc<Self> {
        let now = Instant::now();
        let random = foldhash::fast::RandomState::default().hash_one(now) as f64 / u64::MAX as f64;
        let aged_at = deadline_after(now, varied_age(shared.config.max_connection_age, random));
        let state = State { proved, sessions: Vec::new(), tasks: JoinSet::new(), aged_at, drained_at: None };
        let unread = UnreadBytes::new(shared.config.transport.max_frame as usize + shared.config.transport.outbox);
        Arc::new(Self { shared, peer, unread, state: Mutex::new(state), draining: SetOnce::new() })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.shared.counters.state() != ServerState::Serving || self.draining.get().is_some()
    }

    pub(super) async fn draining(&self) {
        self.draining.wait().await;
    }

    /// Starts the drain if it is due, and lets the sessions check for theirs.
    pub(super) fn check(&self, now: Instant) -> Over {
        let mut state = self.lock();
        if state.drained_at.is_none() {
            let is_draining = self.shared.draining.load(Ordering::Acquire);
            let is_revoked = !self.shared.credentials.accepts(&mut state.proved);
            if is_draining || is_revoked || now >= state.aged_at {
                state.drained_at = Some(deadline_after(now, self.shared.config.drain_timeout));
                // Set once, because `drained_at` was `None`.
                let _ = self.draining.set(());
            }
        }
        state.sessions.iter().for_each(|session| session.wake());
        while state.tasks.try_join_next().is_some() {}
        // The drain of the whole server has a limit of its own.
        let ends_at = state.drained_at.filter(|_| !self.shared.draining.load(Ordering::Acquire));
        Over { next_check: state.drained_at.is_none().then_some(state.aged_at), ends_at }
    }

    pub(super) async fn call(&self, request: EndpointRequest) -> Result<EndpointReply, Error> {
        if self.shared.credentials.tokens.is_some() && request.token.is_none() {
            let message = "the server requires a token, and the request has none";
            return Err(Error::not_executed(Code::Unauthenticated, message));
        }
        let mut request = request;
        for _ in 0..MAX_SESSIONS_OF_A_CALL {
            let session = self.session(request.token.as_ref())?;
            match session.send(request).await {
                Ok(sent) => {
                    let (call, sending) = sent;
                    if let Some(sending) = sending {
                        self.lock().tasks.spawn(sending);
                    }
                    return call.answer().await;
                }
                Err(NotSent::Failed(error)) => return Err(error),
                Err(NotSent::Over(returned)) => request = *returned,
            }
        }
        Err(Error::not_executed(Code::Unavailable, "the connection is draining"))
    }

    /// Returns the session of a token, and opens one if there is none.
    fn session(&self, token: Option<&ProvedToken>) -> Result<Arc<Session>, Error> {
        let mut state = self.lock();
        state.sessions.retain(|session| !session.is_closed());
        if let Some(at) = state.sessions.iter().position(|session| session.is_open() && session.is_of(token)) {
            let session = state.sessions.remove(at);
            state.sessions.push(Arc::clone(&session));
            return Ok(session);
        }
        if state.drained_at.is_some() {
            return Err(Error::not_executed(Code::Unavailable, "the connection is draining"));
        }
        if state.sessions.iter().filter(|session| session.is_open()).count() >= MAX_SESSIONS {
            // The session that was not used for the longest time ends after its calls.
            if let Some(oldest) = state.sessions.iter().find(|session| session.is_open()) {
                oldest.retire();
            }
        }
        if state.sessions.len() >= 2 * MAX_SESSIONS {
            let message = format!(
                "calls with different tokens on this connection reached the limit of {} (fixed)",
                2 * MAX_SESSIONS
            );
            return Err(Error::not_executed(Code::ResourceExhausted, message));
        }
        let proved = state.proved.with_token(token.cloned());
        let identity = self.peer.identity().clone();
        let peer = match token {
            Some(token) => self.peer.clone().with_identity(identity.with_token(token.name())),
            None => self.peer.clone(),
        };
        let (session, work) = Session::open(&self.shared.config, token.cloned(), Arc::clone(&self.unread), |outbox| {
            Connection::new(Arc::clone(&self.shared), outbox, peer, proved)
        });
        while state.tasks.try_join_next().is_some() {}
        state.tasks.spawn(work);
        state.sessions.push(Arc::clone(&session));
        Ok(session)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The maximum number of sessions of a connection: of tokens whose calls it carries at the same time.
///
/// A proxy may send the calls of several callers over one connection. The calls of an older session continue.
const MAX_SESSIONS: usize = 8;
/// The number of sessions on which a call is tried, because a session may end before it takes the call.
const MAX_SESSIONS_OF_A_CALL: usize = 3;
