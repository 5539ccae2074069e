//! [`Connections`]: the open connections of the port, whose number is limited.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::task::{AbortHandle, JoinSet};

/// The open connections, of which a new one displaces another at the limits.
///
/// Waiting for a free slot would let slow clients delay the answers to others.
#[derive(Debug, Default)]
pub(super) struct Connections {
    /// Oldest first.
    open: Vec<Connection>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Connection {
    /// The address of the client as `rpc_core::Peer::network` defines it.
    network: Option<IpAddr>,
    head: Head,
    task: AbortHandle,
}

/// Whether the head of a connection's request is complete.
#[derive(Debug, Clone, Default)]
pub(super) struct Head(Arc<AtomicBool>);

impl Head {
    pub(super) fn complete(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_complete(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Connections {
    /// The maximum number of connections.
    pub(super) const MAX: usize = 32;
    /// The maximum number of connections from one address.
    pub(super) const MAX_PER_ADDRESS: usize = 16;

    /// Serves a connection of `network` in a task.
    pub(super) fn add<F>(&mut self, network: Option<IpAddr>, serve: impl FnOnce(Head) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.open.iter().filter(|other| other.network == network).count() >= Self::MAX_PER_ADDRESS {
            self.displace(|other| other.network == network);
        } else if self.open.len() >= Self::MAX {
            self.displace(|_| true);
        }
        let head = Head::default();
        let task = self.tasks.spawn(serve(head.clone()));
        self.open.push(Connection { network, head, task });
    }

    /// Closes the oldest of these connections without a complete head, or else the oldest one.
    fn displace(&mut self, among: impl Fn(&Connection) -> bool) {
        let those = self.open.iter().enumerate().filter(|(_, connection)| among(connection));
        // Returns the first, which is the oldest, of several that are equal.
        let displaced = those.min_by_key(|(_, connection)| connection.head.is_complete()).map(|(at, _)| at);
        if let Some(at) = displaced {
            self.open.remove(at).task.abort();
        }
    }

    /// Waits for the end of a connection; pending without connections.
    ///
    /// # Cancel safety
    ///
    /// The next call returns for a connection that has ended.
    pub(super) async fn ended(&mut self) {
        let Some(ended) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
        let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
        self.open.retain(|connection| connection.task.id() != id);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn network(number: u8) -> Option<IpAddr> {
        Some(Ipv4Addr::new(10, 0, 0, number).into())
    }

    fn add(connections: &mut Connections, number: u8) -> Head {
        let mut head = Head::default();
        connections.add(network(number), |own| {
            head = own;
            std::future::pending()
        });
        head
    }

    /// Returns the networks of the open connections, oldest first.
    fn open(connections: &Connections) -> Vec<Option<IpAddr>> {
        connections.open.iter().map(|connection| connection.network).collect()
    }

    #[tokio::test]
    async fn connection_displaces_oldest_without_head() {
        let mut connections = Connections::default();
        add(&mut connections, 1).complete();
        let heads: Vec<_> = (2..).take(Connections::MAX - 1).map(|number| add(&mut connections, number)).collect();
        add(&mut connections, 101);
        assert_eq!(open(&connections)[..2], [network(1), network(3)], "the first has a head");
        heads.iter().for_each(Head::complete);
        add(&mut connections, 102);
        add(&mut connections, 103);
        assert_eq!(open(&connections)[0], network(1), "the displaced ones had no head");
        assert_eq!(connections.open.len(), Connections::MAX);
    }

    #[tokio::test]
    async fn address_displaces_only_its_own_connections() {
        let mut connections = Connections::default();
        add(&mut connections, 1);
        for _ in 0..Connections::MAX_PER_ADDRESS + 5 {
            add(&mut connections, 2);
        }
        assert_eq!(open(&connections)[0], network(1));
        assert_eq!(connections.open.len(), 1 + Connections::MAX_PER_ADDRESS);
        for _ in 0..5 {
            connections.ended().await;
        }
        assert_eq!(connections.open.len(), 1 + Connections::MAX_PER_ADDRESS, "displaced connections leave no entry");
        assert_eq!(connections.tasks.len(), connections.open.len());
    }
}
