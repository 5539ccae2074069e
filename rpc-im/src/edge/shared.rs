//! [`Shared`]: the state of all connections of an edge; [`AdmittedConnection`]: the slots of one.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
};

use hyper::HeaderMap;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    account_limits::AccountLimits,
    address,
    config::EdgeConfig,
    entering::{Entering, EnteringSlot},
    metrics::Metrics,
    slots::{Full, Slot, Slots},
    tls::Acceptor,
    watch::Watchdog,
};
use crate::{
    Node,
    auth::{Accounts, LoginGuard, Secret},
    rates::RateTable,
};

/// The state that all connections of an edge share.
pub(super) struct Shared {
    pub(super) node: Arc<Node>,
    pub(super) secret: Secret,
    pub(super) accounts: Accounts,
    pub(super) guard: LoginGuard,
    pub(super) limits: AccountLimits,
    pub(super) config: EdgeConfig,
    pub(super) tls: Option<Arc<Acceptor>>,
    pub(super) metrics: Metrics,
    pub(super) watchdog: Arc<Watchdog>,
    pub(super) tasks: TaskTracker,
    /// Slots of all connections, [`EdgeConfig::max_connections`].
    pub(super) connections: Arc<Slots>,
    /// Slots of connections that are not logged in, [`EdgeConfig::max_entering`].
    pub(super) entering: Arc<Entering>,
    /// Slots of sides of pairing rooms, [`EdgeConfig::max_rooms`].
    pub(super) rooms: Arc<Slots>,
    /// The rate of requests for pairing rooms by address.
    pub(super) room_rate: RateTable<IpAddr>,
    /// Closes the connections that are still open after the drain.
    pub(super) abort: CancellationToken,
}

/// One TCP connection with its slots, which are free again on drop.
pub(super) struct AdmittedConnection {
    pub(super) shared: Arc<Shared>,
    /// The network of the TCP peer.
    peer: IpAddr,
    _slot: Slot,
    /// Held until the connection carries a session or a side of a pairing room.
    entering: Mutex<Option<EnteringSlot>>,
    /// Cancelled if another connection displaces this one before it is logged in.
    pub(super) displaced: CancellationToken,
}

impl Shared {
    /// Returns the node's name as clients receive it.
    pub(super) fn name(&self) -> String {
        self.node.name().to_owned()
    }

    /// Returns whether a network is that of a proxy of the operator, which forwards the requests of many clients.
    fn is_proxy(&self, peer: IpAddr) -> bool {
        self.config.trusted_proxies.iter().any(|proxy| address::network(*proxy) == peer)
    }
}

impl AdmittedConnection {
    /// Takes the slots of a new connection, or returns the limit that is reached.
    pub(super) fn new(shared: &Arc<Shared>, peer: IpAddr) -> Result<Self, Full> {
        let peer = address::network(peer);
        let address = (!shared.is_proxy(peer)).then_some(peer);
        let slot = shared.connections.take(address)?;
        let displaced = CancellationToken::new();
        let entering = Mutex::new(Some(shared.entering.take(address, displaced.clone())?));
        shared.metrics.connections.fetch_add(1, Relaxed);
        Ok(Self { shared: Arc::clone(shared), peer, _slot: slot, entering, displaced })
    }

    /// Returns the address by which the limits recognize the client of a request.
    pub(super) fn client(&self, headers: &HeaderMap) -> IpAddr {
        match self.shared.is_proxy(self.peer) {
            true => address::forwarded_for(headers).unwrap_or(self.peer),
            false => self.peer,
        }
    }

    /// Frees the slot of a connection without a session, once the connection carries a session or a side of a pairing room.
    pub(super) fn has_entered(&self) {
        self.entering.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for AdmittedConnection {
    fn drop(&mut self) {
        self.shared.metrics.connections.fetch_sub(1, Relaxed);
    }
}
