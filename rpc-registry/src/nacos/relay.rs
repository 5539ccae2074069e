//! [`Relay`]: the TCP path from one connection of nacos-sdk to the Nacos servers.
//!
//! nacos-sdk opens its sockets itself and has no settings for them. It connects to a [`Relay`] on the loopback interface instead, which
//! forwards the bytes unchanged, in both directions, to one of the servers. This changes five things that matter:
//!
//! - **Noticing a restart.** Below the SDK, tonic connects again by itself, and the restarted server answers every call of a connection that it
//!   does not know with an error. The SDK notices only if it has received something on its stream before, and an official server may send
//!   nothing for long. The relay does not serve tonic's own attempts, so the SDK has to begin anew, which registers again.
//! - **Reconnecting.** After an outage the SDK pauses for up to 64 s before its next attempt. The relay accepts that attempt at once and
//!   holds it until a server accepts a connection, so an outage costs the SDK one short pause, however long it lasts.
//! - **Latency.** The SDK leaves Nagle's algorithm on and writes a request in two parts, so each request waits 40 ms for a delayed
//!   acknowledgement. The relay acknowledges at once (`TCP_QUICKACK`, Linux), and sets `TCP_NODELAY` towards the server.
//! - **Choice of a server.** Each connection tries all servers, in random order, before it waits.
//! - **Closing.** The SDK never closes a connection. When the relay ends, its connections do, and the servers remove their instances.
//!
//! The relay distinguishes attempts of the SDK from those of tonic by the port. It listens on two, which the SDK is given as the addresses of
//! two servers. Each time the SDK begins anew it takes the next of its servers, whereas tonic stays with the one it has. The connection
//! before is closed then: the SDK has given it up, but keeps it open, and the server would list what both have registered.

use std::{io, net::Ipv4Addr, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use rand::seq::SliceRandom as _;
use rpc_core::{Code, Error};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::url::GRPC_PORT_OFFSET;
use crate::address::HostPort;

/// The most connections at a time: the one in use, and those that are being given up. Further ones wait in the listeners' backlogs.
const MAX_CONNECTIONS: usize = 8;
/// The longest that a server may take to accept a connection.
pub(super) const CONNECT: Duration = Duration::from_secs(2);
/// The pause after no server has accepted a connection.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest that a client may take to send its first bytes. The SDK sends them at once; port scanners do not.
const PREFACE: Duration = Duration::from_secs(1);
/// How every HTTP/2 connection begins.
const HTTP2: &[u8] = b"PRI * HTTP/2.0";
/// How long a new connection to a server is watched: proxies accept connections for a server that does not run, and close them.
const PROOF: Duration = Duration::from_millis(500);
/// The longest that one of several servers may take to send its first bytes.
const FIRST_BYTES: Duration = Duration::from_secs(5);
/// The longest that a single server may take, as there is no other to try.
const FIRST_BYTES_OF_ONE: Duration = Duration::from_secs(30);
/// How long tonic's attempts are closed at once, from the first of them on. While the SDK sets up a connection it waits for each failure,
/// and begins anew after five of them, 4.5 s.
const CLOSING: Duration = Duration::from_secs(6);
/// How long each later attempt is left without an answer. Once the SDK has set up a connection it gives it up if three health checks fail,
/// and makes them only after 5 s in which no call has ended, every 5 s.
const SILENCE: Duration = Duration::from_secs(12);
/// The size of the buffer for each direction of a connection, in bytes.
const BUFFER: usize = 8 * 1024;

/// Two listeners on free loopback ports which forward the connections of one `NamingService`. They end with this handle.
pub(super) struct Relay {
    ports: [u16; 2],
    ended: CancellationToken,
    _stop_on_drop: DropGuard,
}

/// The treatment of an incoming connection.
#[derive(Debug, PartialEq)]
enum Admission {
    Forward,
    Close,
    /// Kept open without an answer.
    Silence,
}

/// Tells the SDK's connections from those that tonic makes in their place. No I/O.
#[derive(Default)]
struct Gate {
    /// The port of the last connection that was forwarded.
    port: Option<usize>,
    /// When the first connection was refused since then.
    refused: Option<Instant>,
}

impl Gate {
    fn admit(&mut self, now: Instant, port: usize) -> Admission {
        if self.port != Some(port) {
            *self = Self { port: Some(port), refused: None };
            return Admission::Forward;
        }
        let since = *self.refused.get_or_insert(now);
        if now < since + CLOSING { Admission::Close } else { Admission::Silence }
    }
}

impl Relay {
    /// Starts a relay to the gRPC ports `servers`.
    ///
    /// # Errors
    ///
    /// `Internal` when no loopback ports can be opened.
    pub(super) async fn start(servers: Vec<HostPort>, tasks: &TaskTracker) -> Result<Self, Error> {
        let failed = |cause: io::Error| {
            Error::not_executed(Code::Internal, "no loopback port can be opened for a connection to Nacos")
                .with_source(cause)
        };
        let (one, other) = (listen().await.map_err(failed)?, listen().await.map_err(failed)?);
        let stop = CancellationToken::new();
        let ports = [one.1, other.1];
        tasks.spawn(accept([one.0, other.0], servers.into(), stop.clone()));
        Ok(Self { ports, ended: stop.clone(), _stop_on_drop: stop.drop_guard() })
    }

    /// Is cancelled once the relay has ended. Its ports may be another program's then.
    pub(super) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// The server addresses for the SDK, which adds 1000 to each port.
    pub(super) fn servers(&self) -> String {
        self.ports.map(|port| format!("{}:{}", Ipv4Addr::LOCALHOST, port - GRPC_PORT_OFFSET)).join(",")
    }
}

async fn listen() -> io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    match listener.local_addr()?.port() {
        port if port > GRPC_PORT_OFFSET => Ok((listener, port)),
        port => Err(io::Error::other(format!("the system chose port {port}, which is not above {GRPC_PORT_OFFSET}"))),
    }
}

async fn accept([one, other]: [TcpListener; 2], servers: Arc<[HostPort]>, stop: CancellationToken) {
    // Both are dropped at the end, which aborts their tasks and closes their sockets.
    let (mut incoming, mut connections) = (JoinSet::new(), JoinSet::new());
    let mut gate = Gate::default();
    loop {
        let has_room = incoming.len() + connections.len() < MAX_CONNECTIONS;
        // All branches are cancel-safe.
        let (port, accepted) = tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            Some(greeted) = incoming.join_next(), if !incoming.is_empty() => {
                if let Ok(Some((port, client))) = greeted {
                    admit(gate.admit(Instant::now(), port), client, &servers, &mut connections);
                }
                continue;
            }
            accepted = one.accept(), if has_room => (0, accepted),
            accepted = other.accept(), if has_room => (1, accepted),
        };
        match accepted {
            Ok((client, _)) => _ = incoming.spawn(async move { is_http2(&client).await.then_some((port, client)) }),
            Err(error) => {
                tracing::debug!(%error, "the relay to Nacos cannot accept a connection");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Whether the client sends what an HTTP/2 client sends first.
async fn is_http2(client: &TcpStream) -> bool {
    let first = async {
        let mut first = [0; HTTP2.len()];
        loop {
            match client.peek(&mut first).await {
                Ok(length) if length > 0 && HTTP2.starts_with(&first[..length]) => {
                    if length == HTTP2.len() {
                        return true;
                    }
                    // A part of it stays readable, so there is nothing to wait for but time.
                    sleep(Duration::from_millis(1)).await;
                }
                _ => return false,
            }
        }
    };
    timeout(PREFACE, first).await.unwrap_or(false)
}

fn admit(admission: Admission, client: TcpStream, servers: &Arc<[HostPort]>, connections: &mut JoinSet<()>) {
    match admission {
        Admission::Forward => {
            connections.abort_all();
            connections.spawn(relay(client, Arc::clone(servers)));
        }
        Admission::Close => {}
        Admission::Silence => {
            connections.spawn(async move {
                sleep(SILENCE).await;
                drop(client);
            });
        }
    }
}

/// Forwards one connection until either side ends it.
async fn relay(mut client: TcpStream, servers: Arc<[HostPort]>) {
    let Some(mut server) = dial(&client, &servers).await else { return };
    let first_bytes = if servers.len() > 1 { FIRST_BYTES } else { FIRST_BYTES_OF_ONE };
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    // A gRPC connection is of no use once one direction has ended.
    let outcome = tokio::select! {
        outcome = forward(from_client, to_server, None) => outcome,
        outcome = forward(from_server, to_client, Some(first_bytes)) => outcome,
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection to Nacos broke");
    }
}

/// Connects to one of the servers, however long that takes; `None` once the client has given up.
async fn dial(client: &TcpStream, servers: &[HostPort]) -> Option<TcpStream> {
    let mut order: Vec<_> = servers.iter().collect();
    order.shuffle(&mut rand::rng());
    loop {
        for server in &order {
            match timeout(CONNECT, connect(server)).await {
                Ok(Ok(stream)) => return Some(stream),
                Ok(Err(error)) => tracing::debug!(%server, %error, "a Nacos server accepts no connection"),
                Err(_) => tracing::debug!(%server, "a Nacos server does not answer a connection attempt"),
            }
        }
        sleep(PAUSE).await;
        // The client has sent its first frames, so it is readable, and tells whether it is closed.
        let readiness = client.ready(Interest::READABLE).now_or_never();
        if readiness.is_some_and(|ready| ready.is_ok_and(|ready| ready.is_read_closed())) {
            return None;
        }
    }
}

async fn connect(server: &HostPort) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server.to_string()).await?;
    stream.set_nodelay(true)?;
    // A gRPC server sends its settings at once; one that waits for the client's is given the benefit of the doubt.
    match timeout(PROOF, stream.peek(&mut [0; 1])).await {
        Ok(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(stream),
    }
}

async fn forward(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, first_bytes: Option<Duration>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut limit = first_bytes;
    loop {
        acknowledge_at_once(from.as_ref())?;
        let read = from.read(&mut buffer);
        let length = match limit.take() {
            Some(limit) => timeout(limit, read).await??,
            None => read.await?,
        };
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
    }
}

/// Acknowledges what arrives next without a delay. The kernel resets this by itself, so it is set before each read.
#[cfg(target_os = "linux")]
fn acknowledge_at_once(stream: &TcpStream) -> io::Result<()> {
    stream.set_quickack(true)
}

#[cfg(not(target_os = "linux"))]
fn acknowledge_at_once(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn host_port(address: SocketAddr) -> HostPort {
        HostPort { host: address.ip().to_string(), port: address.port() }
    }

    async fn listen() -> (TcpListener, HostPort) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, host_port(address))
    }

    async fn start(servers: Vec<HostPort>) -> (Relay, TcpStream) {
        let relay = Relay::start(servers, &TaskTracker::new()).await.unwrap();
        let client = connect_to(&relay, 0).await;
        (relay, client)
    }

    /// Connects and sends the first bytes of an HTTP/2 client.
    async fn connect_to(relay: &Relay, port: usize) -> TcpStream {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.ports[port])).await.unwrap();
        client.write_all(HTTP2).await.unwrap();
        client
    }

    /// Accepts a connection and reads its first bytes.
    async fn accept_from(listener: &TcpListener) -> TcpStream {
        let (mut accepted, _) = listener.accept().await.unwrap();
        let mut first = [0; HTTP2.len()];
        accepted.read_exact(&mut first).await.unwrap();
        assert_eq!(first, HTTP2);
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
    async fn relay_holds_a_connection_until_a_server_accepts() {
        let (listener, server) = listen().await;
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (_relay, mut client) = start(vec![server]).await;
        client.write_all(b"early").await.unwrap();
        // The first round of attempts fails.
        sleep(PAUSE * 2).await;
        let listener = TcpListener::bind(address).await.unwrap();
        let mut accepted = accept_from(&listener).await;
        let mut early = [0; 5];
        accepted.read_exact(&mut early).await.unwrap();
        assert_eq!(&early, b"early");
        exchange(&mut client, &mut accepted).await;
    }

    #[tokio::test]
    async fn relay_skips_servers_that_accept_no_connection() {
        let (absent, absent_address) = listen().await;
        drop(absent);
        let (listener, server) = listen().await;
        let (_relay, mut client) = start(vec![absent_address, server]).await;
        let (mut accepted, _) = listener.accept().await.unwrap();
        accepted.write_all(b"settings").await.unwrap();
        client.read_exact(&mut [0; 8]).await.unwrap();
    }

    #[tokio::test]
    async fn relay_leaves_one_of_several_servers_that_is_silent() {
        let (silent, one) = listen().await;
        let (also_silent, other) = listen().await;
        let (_relay, mut client) = start(vec![one, other]).await;
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        drop((silent, also_silent));
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
    async fn relay_closes_the_connection_that_the_sdk_gave_up() {
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
    async fn relay_ignores_clients_that_do_not_speak_http2() {
        let (listener, server) = listen().await;
        let (relay, mut first) = start(vec![server]).await;
        let mut accepted = accept_from(&listener).await;
        let mut scanner = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.ports[1])).await.unwrap();
        scanner.write_all(b"PRI * HTTP/1.1\r\n").await.unwrap();
        // A reset, as its bytes were not read.
        assert!(!matches!(scanner.read(&mut [0; 1]).await, Ok(1..)));
        exchange(&mut first, &mut accepted).await;
    }

    #[tokio::test]
    async fn relay_serves_only_attempts_of_the_sdk() {
        let (listener, server) = listen().await;
        let (relay, mut first) = start(vec![server]).await;
        let mut accepted = accept_from(&listener).await;
        exchange(&mut first, &mut accepted).await;
        drop(accepted);
        // First an attempt of tonic, then one of the SDK.
        assert!(!matches!(connect_to(&relay, 0).await.read(&mut [0; 1]).await, Ok(1..)));
        let mut second = connect_to(&relay, 1).await;
        let mut accepted = accept_from(&listener).await;
        exchange(&mut second, &mut accepted).await;
    }

    #[test]
    fn gate_closes_then_silences_repeated_attempts() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        assert_eq!(gate.admit(now, 1), Admission::Forward);
        assert_eq!(gate.admit(now, 1), Admission::Close);
        assert_eq!(gate.admit(now + CLOSING - Duration::from_millis(1), 1), Admission::Close);
        assert_eq!(gate.admit(now + CLOSING, 1), Admission::Silence);
        assert_eq!(gate.admit(now + CLOSING, 0), Admission::Forward);
        assert_eq!(gate.admit(now + CLOSING, 0), Admission::Close);
        assert_eq!(gate.admit(now + CLOSING, 1), Admission::Forward);
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
