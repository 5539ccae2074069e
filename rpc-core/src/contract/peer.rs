//! [`Peer`]: the other end of a connection.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::sync::SetOnce;

use super::encoding::PeerWork;
use crate::Identity;

/// The addresses of the connection on which a call arrived, and the identity of the caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The address of the caller; `None` in process.
    pub address: Option<SocketAddr>,
    /// The address at which the caller reached this server; `None` in process.
    pub local_address: Option<SocketAddr>,
    identity: Identity,
    /// The long work for this peer.
    work: PeerWork,
    draining: Draining,
}

/// The notice that a connection drains; `None` in process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Draining(Option<Arc<SetOnce<()>>>);

impl Draining {
    /// Creates the notice of a connection.
    pub fn of_connection() -> Self {
        Self(Some(Arc::default()))
    }

    /// Records that the connection drains.
    pub fn set(&self) {
        if let Some(draining) = &self.0 {
            // An earlier drain may have set it.
            let _ = draining.set(());
        }
    }

    /// Waits until the connection drains; forever in process.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub(crate) async fn wait(&self) {
        match &self.0 {
            Some(draining) => {
                draining.wait().await;
            }
            None => std::future::pending().await,
        }
    }
}

/// Two peers are equal whether or not their connections drain.
impl PartialEq for Draining {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Draining {}

impl Peer {
    /// Creates an anonymous peer with the two addresses of its connection.
    pub fn new(address: SocketAddr, local_address: SocketAddr) -> Self {
        let (address, local_address) = (Some(address), Some(local_address));
        Self {
            address,
            local_address,
            identity: Identity::ANONYMOUS,
            work: PeerWork::default(),
            draining: Draining::default(),
        }
    }

    /// Sets the identity that the peer has proved.
    #[must_use]
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    /// Returns the address under which limits per client count the peer.
    ///
    /// This is the IPv4 address, or the first 64 bits of the IPv6 address, because a host can choose the other 64
    /// freely.
    ///
    /// `None` in process.
    pub fn network(&self) -> Option<IpAddr> {
        self.address.map(|address| match address.ip().to_canonical() {
            IpAddr::V4(ip) => IpAddr::V4(ip),
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
        })
    }

    /// Sets the place in the line for long work, which all connections of the peer share.
    #[doc(hidden)]
    #[must_use]
    pub fn with_work(mut self, work: PeerWork) -> Self {
        self.work = work;
        self
    }

    /// Sets the notice that the connection drains.
    #[doc(hidden)]
    #[must_use]
    pub fn with_draining(mut self, draining: Draining) -> Self {
        self.draining = draining;
        self
    }

    /// Returns the notice that the connection drains.
    pub(crate) fn draining(&self) -> &Draining {
        &self.draining
    }

    /// Returns the place in the line for long work.
    pub(crate) fn work(&self) -> &PeerWork {
        &self.work
    }

    /// Returns the identity that the peer has proved.
    ///
    /// It is anonymous in process and where the server requires no proof.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}
