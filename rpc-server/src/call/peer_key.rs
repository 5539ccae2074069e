//! [`PeerKey`]: the key under which limits per peer count a connection.

use std::net::IpAddr;

use rpc_core::Peer;

/// The key under which limits per peer count a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum PeerKey {
    /// The first name that the peer has proved.
    Name(String),
    /// The network of a peer without a proved name; see [`Peer::network`].
    Network(Option<IpAddr>),
}

impl PeerKey {
    /// Returns the key of a peer: its proved name, otherwise its network.
    pub(crate) fn of(peer: &Peer) -> Self {
        match peer.identity().names().next() {
            Some(name) => Self::Name(name.to_owned()),
            None => Self::Network(peer.network()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rpc_core::Identity;

    use super::*;

    #[test]
    fn proved_name_precedes_the_network() {
        let address = "127.0.0.1:1".parse().unwrap();
        let anonymous = Peer::new(address, address);
        assert_eq!(PeerKey::of(&anonymous), PeerKey::Network(Some(address.ip())));
        let ann = anonymous.clone().with_identity(Identity::ANONYMOUS.with_token("ann"));
        assert_eq!(PeerKey::of(&ann), PeerKey::Name("ann".to_owned()));
        let nameless = anonymous.with_identity(Identity::ANONYMOUS.with_certificate(Vec::new()));
        assert_eq!(PeerKey::of(&nameless), PeerKey::Network(Some(address.ip())));
    }
}
