//! The ports of a server, and a search for free ones.

use std::net::{Ipv4Addr, TcpListener};

/// The distance of the gRPC port from the HTTP port. Nacos clients assume it.
pub(super) const GRPC_OFFSET: u16 = 1000;

/// The ports of an official server relative to its HTTP port: raft, HTTP, gRPC for clients, gRPC for members.
///
/// r-nacos uses only HTTP and gRPC for clients.
pub(super) const PORTS: [i32; 4] = [-1000, 0, 1000, 1001];

/// Returns an HTTP port that is free together with the other ports of a server.
///
/// The port is below the ephemeral range of operating systems, so that no client socket takes it before the server does.
pub(super) fn free_ports() -> u16 {
    let free = |port: i32| u16::try_from(port).is_ok_and(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    (0..1000)
        .map(|_| rand::random_range(12_000..31_000))
        .find(|http| PORTS.iter().all(|offset| free(i32::from(*http) + offset)))
        .expect("the ports of a server are free")
}
