//! [`Relay`]: the TCP path from one connection of nacos-sdk to the Nacos servers.
//!
//! nacos-sdk opens its sockets itself and has no settings for them. It connects to a [`Relay`] on the loopback
//! interface instead, which forwards the bytes unchanged, in both directions, to one of the servers. The relay improves
//! six things:
//!
//! - **Restart detection.** Below the SDK, tonic reconnects by itself, and the restarted server answers every call of
//!   an unknown connection with an error. The SDK detects this only if it has received data on its stream before, and
//!   an official server may send none for a long time. The relay does not serve tonic's reconnects, so the SDK must
//!   open a new connection, which registers again.
//! - **Reconnecting.** After an outage the SDK pauses for up to 64 s before its next attempt. The relay accepts that
//!   attempt at once and holds it until a server accepts a connection, so an outage of any length costs the SDK one
//!   short pause.
//! - **Latency.** The SDK leaves Nagle's algorithm on and writes a request in two parts, so each request waits 40 ms
//!   for a delayed acknowledgement. The relay acknowledges at once (`TCP_QUICKACK`, Linux), and sets `TCP_NODELAY`
//!   towards the server.
//! - **Server selection.** Each connection tries all servers, in random order, before it waits.
//! - **Closing.** The SDK never closes a connection. When the relay ends, it closes its connections, and the servers
//!   remove the instances.
//! - **Isolation.** The tasks of the SDK outlive the connection, and try to connect to the address of the ended relay
//!   until the process ends. Each relay therefore has a loopback address of its own (Linux), so that these attempts
//!   never reach a later relay, of any process, to which the system has given the same ports. They would displace its
//!   connection again and again.
//!
//! The relay distinguishes the SDK's connections from tonic's by the port. It listens on two ports, which the SDK
//! receives as the addresses of two servers. For each new connection the SDK uses the next of its servers, whereas
//! tonic reconnects to the same one. The relay then closes the previous connection: the SDK has abandoned it without
//! closing it, and the server would list the registrations of both.

mod accept;
mod gate;
mod splice;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use rpc_core::{Code, Error};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::accept::Acceptor;
pub(super) use self::splice::CONNECT_TIMEOUT;
use super::url::GRPC_PORT_OFFSET;
use crate::{address::HostPort, tasks::Tasks};

/// Two listeners on free ports of a loopback address that forward the connections of one `NamingService`.
///
/// Dropping the handle ends them.
pub(super) struct Relay {
    addresses: [SocketAddr; 2],
    ended: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Relay {
    /// Starts a relay to the gRPC ports `servers`.
    ///
    /// # Errors
    ///
    /// `Internal` if no loopback ports can be opened.
    pub(super) async fn start(servers: Vec<HostPort>, tasks: &Tasks) -> Result<Self, Error> {
        Self::start_on([0; 2], servers, tasks).await
    }

    /// Starts a relay on these ports, each of which may be 0 for a free one.
    async fn start_on(ports: [u16; 2], servers: Vec<HostPort>, tasks: &Tasks) -> Result<Self, Error> {
        let [(first, one), (second, other)] = listen(ports).await.map_err(|cause| {
            Error::not_executed(Code::Internal, "cannot open a loopback port for a connection to Nacos")
                .with_source(cause)
        })?;
        let stop = CancellationToken::new();
        let acceptor = Acceptor::new([first, second], servers.into());
        // The guard is also dropped when the runtime ends.
        let (stopped, guard) = (stop.clone(), stop.clone().drop_guard());
        tasks.spawn(async move {
            acceptor.run(stopped).await;
            drop(guard);
        });
        Ok(Self { addresses: [one, other], ended: stop.clone(), _stop_on_drop: stop.drop_guard() })
    }

    /// Returns a token that is cancelled once the relay has ended.
    ///
    /// Another program may listen on its ports then.
    pub(super) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Returns the server addresses for the SDK, which adds 1000 to each port.
    pub(super) fn servers(&self) -> String {
        self.addresses.map(|address| format!("{}:{}", address.ip(), address.port() - GRPC_PORT_OFFSET)).join(",")
    }
}

/// A listener and its address.
type Listening = (TcpListener, SocketAddr);

/// Listens on two ports of a loopback address: a random one if the system has several, otherwise 127.0.0.1.
async fn listen(ports: [u16; 2]) -> io::Result<[Listening; 2]> {
    if let Some(ip) = random_loopback()
        && let Ok(listening) = listen_on(ip, ports).await
    {
        return Ok(listening);
    }
    listen_on(Ipv4Addr::LOCALHOST, ports).await
}

/// Returns one of 16 million loopback addresses; `None` on systems whose loopback interface has only 127.0.0.1.
fn random_loopback() -> Option<Ipv4Addr> {
    // Without 127.0.0.0/16, where other programs have fixed addresses, and without the broadcast address.
    let random = || Ipv4Addr::new(127, rand::random_range(1..=254), rand::random(), rand::random_range(1..=254));
    cfg!(target_os = "linux").then(random)
}

async fn listen_on(ip: Ipv4Addr, [first, second]: [u16; 2]) -> io::Result<[Listening; 2]> {
    let listen = async |port: u16| {
        let listener = TcpListener::bind((ip, port)).await?;
        let address = listener.local_addr()?;
        if address.port() <= GRPC_PORT_OFFSET {
            let message = format!("the system chose port {}, which is not above {GRPC_PORT_OFFSET}", address.port());
            return Err(io::Error::other(message));
        }
        Ok((listener, address))
    };
    Ok([listen(first).await?, listen(second).await?])
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        time::sleep,
    };

    use super::{accept::HTTP2_PREFACE, splice::DIAL_RETRY_DELAY, *};

    fn host_port(address: SocketAddr) -> HostPort {
        HostPort { host: address.ip().to_string(), port: address.port() }
    }

    async fn listen() -> (TcpListener, HostPort) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, host_port(address))
    }

    async fn start(servers: Vec<HostPort>) -> (Relay, TcpStream) {
        let relay = Relay::start(servers, &Tasks::new()).await.unwrap();
        let client = connect_to(&relay, 0).await;
        (relay, client)
    }

    /// Connects and sends the first bytes of an HTTP/2 client.
    async fn connect_to(relay: &Relay, port: usize) -> TcpStream {
        let mut client = TcpStream::connect(relay.addresses[port]).await.unwrap();
        client.write_all(HTTP2_PREFACE).await.unwrap();
        client
    }

    /// Accepts a connection and reads its first bytes.
    async fn accept_from(listener: &TcpListener) -> TcpStream {
        let (mut accepted, _) = listener.accept().await.unwrap();
        let mut first = [0; HTTP2_PREFACE.len()];
        accepted.read_exact(&mut first).await.unwrap();
        assert_eq!(first, HTTP2_PREFACE);
        accepted
    }

    async fn pass(from: &mut TcpStream, to: &mut TcpStream) {
        from.write_all(b"bytes").await.unwrap();
        let mut read = [0; 5];
        to.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"bytes");
    }

    async fn exchange(client: &mut TcpStream, server: &mut TcpStream) {
        pass(client, server).await;
        pass(server, client).await;
    }

    #[tokio::test]
    async fn relay_forwards_both_directions_until_one_ends() {
        let (listener, server) = listen().await;
        let (_relay, mut client) = start(vec![server]).await;
        let mut accepted = accept_from(&listener).await;
        exchange(&mut client, &mut accepted).await;
        drop(accepted);
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn relay_holds_connection_until_a_server_accepts() {
        let (listener, server) = listen().await;
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (_relay, mut client) = start(vec![server]).await;
        client.write_all(b"early").await.unwrap();
        // The first round of attempts fails.
        sleep(DIAL_RETRY_DELAY * 2).await;
        let listener = TcpListener::bind(address).await.unwrap();
        let mut accepted = accept_from(&listener).await;
        let mut early = [0; 5];
        accepted.read_exact(&mut early).await.unwrap();
        assert_eq!(&early, b"early");
        exchange(&mut client, &mut accepted).await;
    }

    #[tokio::test]
    async fn relay_skips_unreachable_servers() {
        let (absent, absent_address) = listen().await;
        drop(absent);
        let (listener, server) = listen().await;
        let (_relay, mut client) = start(vec![absent_address, server]).await;
        let (mut accepted, _) = listener.accept().await.unwrap();
        accepted.write_all(b"settings").await.unwrap();
        client.read_exact(&mut [0; 8]).await.unwrap();
    }

    #[tokio::test]
    async fn relay_closes_connection_of_unresponsive_server() {
        let (first, one) = listen().await;
        let (second, other) = listen().await;
        let (_relay, mut client) = start(vec![one, other]).await;
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        drop((first, second));
    }

    #[tokio::test]
    async fn relay_skips_proxies_that_close_at_once() {
        let (proxy, address) = listen().await;
        let (_relay, mut client) = start(vec![address]).await;
        drop(proxy.accept().await.unwrap());
        let mut accepted = accept_from(&proxy).await;
        exchange(&mut client, &mut accepted).await;
    }

    #[tokio::test]
    async fn relay_closes_connection_that_the_sdk_abandoned() {
        let (listener, server) = listen().await;
        let (relay, mut first) = start(vec![server]).await;
        let mut superseded = accept_from(&listener).await;
        exchange(&mut first, &mut superseded).await;
        let mut second = connect_to(&relay, 1).await;
        let mut accepted = accept_from(&listener).await;
        exchange(&mut second, &mut accepted).await;
        assert_eq!(superseded.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(first.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn relay_rejects_clients_without_http2() {
        let (listener, server) = listen().await;
        let (relay, mut first) = start(vec![server]).await;
        let mut accepted = accept_from(&listener).await;
        let mut scanner = TcpStream::connect(relay.addresses[1]).await.unwrap();
        scanner.write_all(b"PRI * HTTP/1.1\r\n").await.unwrap();
        // The connection is reset, because its bytes were not read.
        assert!(!matches!(scanner.read(&mut [0; 1]).await, Ok(1..)));
        exchange(&mut first, &mut accepted).await;
    }

    #[tokio::test]
    async fn relay_serves_only_connections_of_the_sdk() {
        let (listener, server) = listen().await;
        let (relay, mut first) = start(vec![server]).await;
        let mut accepted = accept_from(&listener).await;
        exchange(&mut first, &mut accepted).await;
        drop(accepted);
        // First a reconnect of tonic, then a new connection of the SDK.
        assert!(!matches!(connect_to(&relay, 0).await.read(&mut [0; 1]).await, Ok(1..)));
        let mut second = connect_to(&relay, 1).await;
        let mut accepted = accept_from(&listener).await;
        exchange(&mut second, &mut accepted).await;
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn client_of_ended_relay_disturbs_no_later_relay() {
        let (listener, server) = listen().await;
        let ended = Relay::start(vec![server.clone()], &Tasks::new()).await.unwrap();
        let (addresses, stopped) = (ended.addresses, ended.ended());
        drop(ended);
        // The system may give the ports of the ended relay to a later one.
        stopped.cancelled().await;
        let ports = addresses.map(|address| address.port());
        let later = async {
            loop {
                if let Ok(relay) = Relay::start_on(ports, vec![server.clone()], &Tasks::new()).await {
                    return relay;
                }
                tokio::task::yield_now().await;
            }
        };
        let later = later.await;
        let mut client = connect_to(&later, 0).await;
        let mut accepted = accept_from(&listener).await;
        exchange(&mut client, &mut accepted).await;
        for address in addresses {
            assert!(TcpStream::connect(address).await.is_err(), "{address}");
        }
        exchange(&mut client, &mut accepted).await;
    }

    #[tokio::test]
    async fn relay_closes_its_connections_when_it_ends() {
        let (listener, server) = listen().await;
        let (relay, mut client) = start(vec![server]).await;
        let mut accepted = accept_from(&listener).await;
        exchange(&mut client, &mut accepted).await;
        drop(relay);
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(accepted.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
