//! [`ServerConfig`]: the numbers of a server.

use std::time::Duration;

use rpc_core::{
    CallOptions, Code, Error, Payload,
    transport::{PingWindow, TransportConfig},
};

/// The numbers of a server. All have defaults that suit most; build one with `ServerConfig::default().with_…`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerConfig {
    /// A connection is closed when nothing was read on it for this long; default 10 s. Raised, dead clients hold their
    /// connections longer; it must stay well above the clients' ping interval of 3 s.
    pub read_idle: Duration,
    /// The time that a handler has when neither the caller nor its method says; default 5 s. Raised, calls of careless clients
    /// run longer.
    pub default_timeout: Duration,
    /// Calls that run at once on one connection; default 1024. Raised, one client can take more of the server.
    pub max_in_flight: usize,
    /// Handlers that run at once in the whole server, those that were done at once not counted; default 10 000. Calls over it
    /// wait in a queue. It should be what the handlers' slowest resource can do within their callers' timeouts: raised over
    /// that, calls get late and work is done for callers who have left; lowered, less is done at once.
    pub max_running: usize,
    /// Calls that wait at once for others to end; default 256. Calls over it are refused at once with `ResourceExhausted`, and
    /// may be sent to another server. Raised, a burst is taken in, and calls wait longer; 0 refuses at once.
    pub max_queued: usize,
    /// How long a call waits for others to end before it is refused; default 100 ms. Raised, a call that another server could
    /// take waits here.
    pub queue_time: Duration,
    /// The longest that a handler may run which its connection does not end, of a one-way call or one that runs once, unless its
    /// method's own timeout is longer; default 5 minutes. Raised, callers can leave work behind that runs longer.
    pub max_unattended: Duration,
    /// Connections in all; default 10 000. Raised, more memory and file descriptors may be held.
    pub max_connections: usize,
    /// Connections from one host, as far as its address tells ([`Peer::network`](rpc_core::Peer::network)); default 1 000. Raised, one
    /// host can take more of `max_connections`.
    pub max_connections_per_ip: usize,
    /// How long a connection may take to prove itself: the TLS handshake and the proof of a token; default 2 s. Raised, who
    /// proves nothing holds one of `max_connections` longer.
    pub handshake_time: Duration,
    /// Pings a second on one connection, at more of which it is closed; default 100. Raised, one client can make the server
    /// answer more of them.
    pub max_pings: u32,
    /// The longest payload once decompressed, in bytes; default 16 MiB. Raised, one call can make the server hold more.
    pub max_decompressed: usize,
    /// How long the answers of methods that run once are remembered; default 10 minutes. Raised, a repeat may come later, and
    /// more memory is held, at most 100 000 calls and 64 MiB.
    pub once_kept: Duration,
    /// How long a draining server waits, once it is off the registry's list, for consumers to learn of it; default 1 s. Raised,
    /// a shutdown takes longer.
    pub drain_notice: Duration,
    /// How long a draining server lets calls finish; default 30 s. Raised, a shutdown may take longer.
    pub drain_timeout: Duration,
    /// The bounds of each connection's transport.
    pub transport: TransportConfig,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            read_idle: Duration::from_secs(10),
            default_timeout: CallOptions::DEFAULT_TIMEOUT,
            max_in_flight: 1024,
            max_running: 10_000,
            max_queued: 256,
            queue_time: Duration::from_millis(100),
            max_unattended: Duration::from_secs(300),
            max_connections: 10_000,
            max_connections_per_ip: 1_000,
            handshake_time: Duration::from_secs(2),
            max_pings: PingWindow::LIMIT,
            max_decompressed: Payload::MAX_DECOMPRESSED,
            once_kept: Duration::from_secs(600),
            drain_notice: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(30),
            transport: TransportConfig::default(),
        }
    }
}

impl ServerConfig {
    rpc_core::setters! {
        with_read_idle(read_idle: Duration)
        with_default_timeout(default_timeout: Duration)
        with_max_in_flight(max_in_flight: usize)
        with_max_running(max_running: usize)
        with_max_queued(max_queued: usize)
        with_queue_time(queue_time: Duration)
        with_max_unattended(max_unattended: Duration)
        with_max_connections(max_connections: usize)
        with_max_connections_per_ip(max_connections_per_ip: usize)
        with_handshake_time(handshake_time: Duration)
        with_max_pings(max_pings: u32)
        with_max_decompressed(max_decompressed: usize)
        with_once_kept(once_kept: Duration)
        with_drain_notice(drain_notice: Duration)
        with_drain_timeout(drain_timeout: Duration)
        with_transport(transport: TransportConfig)
    }

    /// Refuses numbers with which no call could ever be served.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let refuse =
            |what: &str| Err(Error::not_executed(Code::InvalidArgument, format!("the server's {what} must not be 0")));
        match () {
            () if self.read_idle.is_zero() => refuse("read_idle"),
            () if self.default_timeout.is_zero() => refuse("default_timeout"),
            () if self.max_in_flight == 0 => refuse("max_in_flight"),
            () if self.max_running == 0 => refuse("max_running"),
            () if self.max_unattended.is_zero() => refuse("max_unattended"),
            () if self.max_connections == 0 => refuse("max_connections"),
            () if self.max_connections_per_ip == 0 => refuse("max_connections_per_ip"),
            () if self.handshake_time.is_zero() => refuse("handshake_time"),
            () if self.max_pings == 0 => refuse("max_pings"),
            () if self.max_decompressed == 0 => refuse("max_decompressed"),
            () => self.transport.validate(),
        }
    }
}
