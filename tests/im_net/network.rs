//! [`Network`]: network namespaces, one for each node, that a bridge connects.

use std::net::Ipv4Addr;

use super::run;

/// The namespaces of the nodes, and the bridge between them. The test process has the addresses of the services.
///
/// All methods panic on failure.
pub struct Network {
    nodes: usize,
}

/// A service that nodes use. Each has an address of its own, although one process may provide several services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The store.
    Store,
    /// The directory.
    Directory,
    /// The list of nodes.
    Membership,
}

impl Network {
    /// Creates the namespaces of `nodes` nodes.
    pub(super) fn create(nodes: usize) -> Self {
        // Hides the namespaces that other programs have named.
        run("mount", &["-t", "tmpfs", "tmpfs", "/run"]);
        super::enable_loopback();
        run("ip", &["link", "add", BRIDGE, "type", "bridge"]);
        for address in [CLIENTS, service(Service::Store), service(Service::Directory), service(Service::Membership)] {
            run("ip", &["address", "add", &format!("{address}/24"), "dev", BRIDGE]);
        }
        run("ip", &["link", "set", BRIDGE, "up"]);
        let network = Self { nodes };
        for number in 0..nodes {
            let (namespace, link) = (namespace(number), link(number));
            run("ip", &["netns", "add", &namespace]);
            run("ip", &["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &namespace]);
            run("ip", &["link", "set", &link, "master", BRIDGE, "up"]);
            let address = format!("{}/24", network.node(number));
            run("ip", &["-n", &namespace, "address", "add", &address, "dev", "eth0"]);
            run("ip", &["-n", &namespace, "link", "set", "eth0", "up"]);
            run("ip", &["-n", &namespace, "link", "set", "lo", "up"]);
            network.filter(number, &RULES.replace("{clients}", &CLIENTS.to_string()));
        }
        network
    }

    /// Returns the address of a node.
    pub fn node(&self, number: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, FIRST_NODE + u8::try_from(number).expect("a cluster has few nodes"))
    }

    /// Returns the address of a service.
    pub fn service(&self, which: Service) -> Ipv4Addr {
        service(which)
    }

    /// Returns an address at which no one answers, not even with a rejection.
    pub fn nobody(&self, number: u8) -> Ipv4Addr {
        let address = Ipv4Addr::new(10, 77, 0, FIRST_NOBODY + number);
        for node in 0..self.nodes {
            self.filter(node, &format!("add element inet faults to {{ {address} }}"));
        }
        address
    }

    /// Drops all packets between two nodes.
    pub fn cut(&self, one: usize, other: usize) {
        self.cut_from(one, self.node(other));
    }

    /// Drops all packets between the nodes of two groups.
    pub fn partition(&self, some: &[usize], others: &[usize]) {
        for (one, other) in some.iter().flat_map(|one| others.iter().map(move |other| (*one, *other))) {
            self.cut(one, other);
        }
    }

    /// Drops all packets between a node and a service.
    pub fn cut_service(&self, node: usize, which: Service) {
        self.cut_from(node, service(which));
    }

    /// Drops the packets of one node to another one; those in the other direction pass.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        self.filter(from, &format!("add element inet faults to {{ {} }}", self.node(to)));
    }

    /// Drops the connections of other nodes to a port of a node; its own connections pass.
    pub fn close_port(&self, node: usize, port: u16) {
        self.filter(node, &format!("add element inet faults closed {{ {port} }}"));
    }

    /// Takes the network interface of a node down. Its clients do not reach it either.
    pub fn unplug(&self, node: usize) {
        run("ip", &["link", "set", &link(node), "down"]);
    }

    /// Ends all cuts.
    pub fn heal(&self) {
        for node in 0..self.nodes {
            self.filter(node, "flush set inet faults to; flush set inet faults from; flush set inet faults closed");
            run("ip", &["link", "set", &link(node), "up"]);
        }
    }

    fn cut_from(&self, node: usize, address: Ipv4Addr) {
        let set = |set: &str| format!("add element inet faults {set} {{ {address} }}");
        self.filter(node, &format!("{}; {}", set("to"), set("from")));
    }

    /// Changes the packet filter of a node.
    fn filter(&self, node: usize, commands: &str) {
        run("nsenter", &[&format!("--net={}", path(node)), "nft", commands]);
    }
}

/// Returns the path of the network namespace of a node.
pub(super) fn path(node: usize) -> String {
    format!("/run/netns/{}", namespace(node))
}

fn namespace(node: usize) -> String {
    format!("node{node}")
}

fn link(node: usize) -> String {
    format!("link{node}")
}

fn service(which: Service) -> Ipv4Addr {
    let number = match which {
        Service::Store => 2,
        Service::Directory => 3,
        Service::Membership => 4,
    };
    Ipv4Addr::new(10, 77, 0, number)
}

const BRIDGE: &str = "bridge";
/// The address of the test's clients.
const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const FIRST_NODE: u8 = 11;
const FIRST_NOBODY: u8 = 200;
/// The packet filter of a node. Clients reach every port.
const RULES: &str = "
table inet faults {
    set to { type ipv4_addr; }
    set from { type ipv4_addr; }
    set closed { type inet_service; }
    chain input {
        type filter hook input priority 0;
        ip saddr @from drop
        ip saddr != {clients} tcp dport @closed drop
    }
    chain output {
        type filter hook output priority 0;
        ip daddr @to drop
    }
}";
