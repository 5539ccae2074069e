//! [`Peer`]: the other end of a connection.

use std::net::{IpAddr, SocketAddr};

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
}

impl Peer {
    /// Creates an anonymous peer with the two addresses of its connection.
    pub fn new(address: SocketAddr, local_address: SocketAddr) -> Self {
        let (address, local_address) = (Some(address), Some(local_address));
        Self { address, local_address, identity: Identity::ANONYMOUS, work: PeerWork::default() }
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
