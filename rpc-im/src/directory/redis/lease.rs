//! [`Lease`]: this node's number, which it holds in Redis for as long as it renews it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rpc_core::{Code, Error};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, error, warn};

use super::{
    RedisUrl,
    server::{Away, Held, Holding, Server},
};
use crate::{
    identity::{Epoch, NodeId, NodeKey},
    session::local_sessions::Sessions,
};

/// This node's number, which it holds in Redis for as long as it renews it.
pub(crate) struct Lease {
    server: Arc<Server>,
    node: NodeKey,
    address: SocketAddr,
    times: (Duration, Duration),
    state: Mutex<State>,
    /// Told when it is held again after a gap.
    changed: Notify,
    /// Told when another node has the number.
    refused: Notify,
    /// Renews at once.
    hurry: Notify,
}

#[derive(Debug, Clone, Copy)]
struct State {
    held_until: Option<Instant>,
    /// Counts the times that the lease was not held before it was taken: sessions that were entered before are to be entered again.
    gap: u64,
    /// Up to which of them they were.
    whole: u64,
}

impl Lease {
    /// Takes a number: the one that is wanted, or the first from `likely` on that nobody has. It is renewed every `times.0`, and lasts
    /// for `times.1`.
    ///
    /// A number is free when nobody holds it, or an earlier life of this node did, which is one on the same address. One that is
    /// wanted and held is waited for as long as a lease lasts.
    pub(crate) async fn take(
        url: &RedisUrl,
        (wanted, likely): (Option<NodeId>, NodeKey),
        address: SocketAddr,
        times: (Duration, Duration),
    ) -> Result<Self, Error> {
        let server = Arc::new(Server::new(url)?);
        let begun = Instant::now();
        let mut node = NodeKey { id: wanted.unwrap_or(likely.id), ..likely };
        let (mut tried, mut taken) = (0, None);
        while taken.is_none() {
            let address = address.to_string();
            let holding = Holding { node, address, connections: 0, is_whole: false, lease: times.1 };
            let asked = Instant::now();
            tried += 1;
            match server.hold(&holding).await {
                Ok(Held::Kept | Held::Taken) => taken = Some(asked),
                // The clock has gone back since its last life.
                Ok(Held::Refused { epoch, address }) if address == holding.address && tried < TRIES => {
                    node.epoch = Epoch(epoch.0.saturating_add(1));
                }
                Ok(Held::Refused { .. }) if wanted.is_none() && tried < TRIES => node.id = node.id.next(),
                Ok(Held::Refused { .. }) if wanted.is_some() && begun.elapsed() <= times.1 => sleep(AGAIN).await,
                Ok(Held::Refused { address, .. }) => {
                    let message = format!("another node, on {address}, holds the number {} in redis", node.id);
                    return Err(Error::not_executed(Code::AlreadyExists, message));
                }
                Err(Away) if begun.elapsed() <= START => sleep(AGAIN).await,
                Err(Away) => {
                    return Err(Error::not_executed(
                        Code::Unavailable,
                        format!("no redis answers on {}", server.address()),
                    ));
                }
            }
        }
        let state = State { held_until: taken.map(|taken| taken + times.1), gap: 0, whole: 0 };
        Ok(Self {
            server,
            node,
            address,
            times,
            state: Mutex::new(state),
            changed: Notify::new(),
            refused: Notify::new(),
            hurry: Notify::new(),
        })
    }

    pub(crate) fn node(&self) -> NodeKey {
        self.node
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Whether it is certain that nobody else has the number.
    pub(super) fn is_held(&self) -> bool {
        self.state().held_until.is_some_and(|until| Instant::now() < until)
    }

    /// How often there was a gap before it was held.
    pub(super) fn gap(&self) -> u64 {
        self.state().gap
    }

    /// All sessions were entered since that gap.
    pub(super) fn set_whole(&self, gap: u64) {
        let mut state = self.state();
        if state.whole != gap {
            state.whole = gap;
            drop(state);
            self.hurry.notify_one();
        }
    }

    /// Waits until it is held again after a gap.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until another node is said to have the number.
    pub(super) async fn refused(&self) {
        self.refused.notified().await;
    }

    /// Renews it, for as long as it is polled.
    pub(super) async fn keep(&self, sessions: &Sessions) {
        let (beat, _) = self.times;
        loop {
            let pause = match self.renew(sessions).await {
                Ok(()) => beat,
                Err(Away) => (beat / 6).min(AGAIN),
            };
            let woken = async {
                tokio::select! {
                    // Either may be dropped: what follows is the same.
                    () = self.hurry.notified() => {}
                    () = self.server.lost() => {}
                }
            };
            let _ = timeout(pause, woken).await;
        }
    }

    /// Gives the number back.
    pub(super) async fn let_go(&self) {
        self.state().held_until = None;
        if let Err(error) = self.server.let_go(self.node).await {
            debug!(%error, "the lease was not given back, and ends by itself");
        }
    }

    async fn renew(&self, sessions: &Sessions) -> Result<(), Away> {
        let asked = Instant::now();
        let state = *self.state();
        let holding = Holding {
            node: self.node,
            address: self.address.to_string(),
            connections: sessions.len(),
            is_whole: state.whole == state.gap,
            lease: self.times.1,
        };
        match self.server.hold(&holding).await? {
            Held::Kept => self.state().held_until = Some(asked + self.times.1),
            Held::Taken => {
                warn!(node = %self.node, "this node's lease in redis had ended; its sessions are entered again");
                let mut state = self.state();
                (state.held_until, state.gap) = (Some(asked + self.times.1), state.gap + 1);
                self.changed.notify_one();
            }
            Held::Refused { address, .. } => {
                error!(node = %self.node, %address, "another node holds this one's number in redis; this one serves nobody");
                self.state().held_until = None;
                self.refused.notify_one();
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Numbers that a node tries, and those that it finds it had.
const TRIES: u32 = 2 * (NodeId::MAX as u32 + 1);
/// How long Redis is waited for when a node starts.
const START: Duration = Duration::from_secs(10);
/// How long after a failure it is asked again.
const AGAIN: Duration = Duration::from_millis(500);
