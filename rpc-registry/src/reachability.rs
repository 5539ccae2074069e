//! The address under which the consumers of a registry reach this machine.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rpc_core::{Code, Discovery, Error, Registry};
use tokio::net::UdpSocket;

/// Rejects a loopback address if the registry runs on another machine.
///
/// Each consumer would connect to its own machine.
pub(crate) async fn check_reachable(address: SocketAddr, registry: &(impl Registry + Discovery)) -> Result<(), Error> {
    if !address.ip().is_loopback() {
        return Ok(());
    }
    match registry.reachable_ip().await {
        Ok(ip) if !ip.is_loopback() => Err(Error::not_executed(
            Code::InvalidArgument,
            format!("cannot register the loopback address {address} with {}; advertise {ip}", registry.url()),
        )),
        _ => Ok(()),
    }
}

/// Returns the local address of the route to `server`.
///
/// Connecting a datagram socket selects it without sending a packet.
pub(crate) async fn local_ip(server: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    Ok(socket.local_addr()?.ip())
}
