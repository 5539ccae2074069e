//! [`ServerConfig`]: the limits and times of a server.

use std::time::Duration;

use rpc_core::{
    CallOptions, Code, Compression, Error, Payload,
    transport::{PingWindow, TransportConfig},
};

/// Limits and times of a server. Build one with `ServerConfig::default().with_…`.
///
/// A time of `Duration::MAX` is unlimited.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerConfig {
    /// The server closes a connection on which it has read nothing for this long; default 10 s.
    ///
    /// A higher value lets dead clients hold their connections longer. Keep it well above the clients' ping interval of
    /// 3 s.
    pub read_idle: Duration,
    /// The timeout of a call for which neither the caller nor the method sets one; default 5 s.
    ///
    /// A higher value lets calls without a timeout run longer.
    pub default_timeout: Duration,
    /// The longest timeout of a call; default 1 hour.
    ///
    /// A longer timeout of the method itself takes precedence. The server ends a call whose caller states a longer
    /// timeout after this time.
    ///
    /// A higher value lets callers hold handlers, and with them a part of `max_running`, longer.
    pub max_timeout: Duration,
    /// The maximum number of calls in flight on one connection; default 1024.
    ///
    /// A higher value lets one client use more of the server.
    pub max_in_flight: usize,
    /// The maximum number of running handlers of the server; default 10 000.
    ///
    /// Handlers that finish in their first poll are not counted, and neither are handlers whose result waits for a
    /// client to read earlier ones: the latter have a limit of the same size. One peer may use at most eight times as
    /// much as is free, and 1/16 of the limit is reserved for peers that use less than two. One peer alone can
    /// therefore use about 5/6 of a large limit, and more of a limit below 16, which reserves nothing. A peer is a
    /// proved name, otherwise an IP address as in `max_connections_per_ip`.
    ///
    /// Calls above the limit are queued. Set it to the number of calls that the slowest resource of the handlers
    /// completes within the callers' timeouts: with a higher value, handlers work for callers that have timed out; with
    /// a lower value, fewer calls run concurrently.
    pub max_running: usize,
    /// Whether the limit of running handlers follows their latency, up to `max_running`; default false.
    ///
    /// The limit grows while the latency stays near that without load, and shrinks in proportion when it is more than 1.5
    /// times as long (gradient algorithm, as in Netflix' concurrency-limits). The server measures the latency without load
    /// once per minute under load, with four running handlers for some tenths of a second.
    ///
    /// It suits handlers whose latency grows with their number, such as those that share a processor or a database. It does
    /// not suit handlers that wait for events, whose latency says nothing about load.
    pub adaptive_limit: bool,
    /// The maximum number of queued calls of the server; default 256.
    ///
    /// The server rejects calls above the limit at once with `ResourceExhausted`; the client may send them to another
    /// server. A higher value absorbs larger bursts, and calls wait longer; 0 disables the queue.
    pub max_queued: usize,
    /// The longest time that a call waits in the queue before the server rejects it; default 100 ms.
    ///
    /// With a higher value, a call waits here although another server may have capacity.
    pub queue_time: Duration,
    /// The longest timeout of one-way calls and once calls; default 5 minutes.
    ///
    /// The handlers of these calls outlive their connection. A longer timeout of the method itself takes precedence.
    ///
    /// A higher value lets handlers run longer without a caller.
    pub max_unattended: Duration,
    /// The maximum number of connections of the server; default 10 000.
    ///
    /// A higher value allows more memory and file descriptors to be used.
    pub max_connections: usize,
    /// The maximum number of connections from one host; default 1 000.
    ///
    /// [`Peer::network`](rpc_core::Peer::network) identifies a host.
    ///
    /// A higher value lets one host use more of `max_connections`.
    pub max_connections_per_ip: usize,
    /// The age at which the server drains a connection; default `Duration::MAX`, which is unlimited.
    ///
    /// It varies by up to a tenth in both directions for each connection. The server sends GOAWAY, serves the calls in
    /// flight, and closes the connection at the latest `drain_timeout` later. Clients open a new connection, on which
    /// certificates and tokens are checked, and which a load balancer may direct to another server.
    ///
    /// A lower value costs more handshakes.
    pub max_connection_age: Duration,
    /// The longest time for a handshake, which is TLS and the token proof; default 2 s.
    ///
    /// A higher value lets peers that prove nothing hold one of `max_connections` longer.
    pub handshake_time: Duration,
    /// The maximum number of pings per second on one connection; default 100.
    ///
    /// The server closes a connection with more.
    ///
    /// A higher value lets one client cause more answers.
    pub max_pings: u32,
    /// The largest decompressed payload in bytes; default 16 MiB.
    ///
    /// A higher value lets one call use more memory.
    pub max_decompressed: usize,
    /// The compressions that the server accepts in requests and uses for responses; default all of this build.
    ///
    /// The server rejects a call with another compression as `Unimplemented`, and does not compress a response in
    /// another way. Uncompressed payloads are always accepted, so an empty list turns compression off. Each
    /// compression lets a short request cause the decompression of up to `max_decompressed` bytes.
    pub compressions: Vec<Compression>,
    /// The retention of the answers of once calls; default 10 minutes.
    ///
    /// A higher value allows later retries and uses more memory, within `max_once_calls` and `max_once_bytes`.
    pub once_kept: Duration,
    /// The maximum number of once calls that run or have a stored answer; default 100 000.
    ///
    /// At the limit, the server discards the oldest answer before `once_kept` has passed, and a later retry of its call
    /// fails with `Aborted`. Set it to at least the once calls per second times `once_kept` in seconds: the default
    /// suffices for 166 calls per second. `ServerCounts::once_discarded` counts these answers, and the server logs a
    /// warning. A higher value uses more memory, about 200 bytes for a call.
    pub max_once_calls: usize,
    /// The maximum number of bytes of stored answers; default 64 MiB.
    ///
    /// As `max_once_calls`. Set it to at least the number of calls in `once_kept` times the length of an answer. A
    /// higher value uses more memory.
    pub max_once_bytes: usize,
    /// The maximum number of calls with streams of the server; default 100 000.
    ///
    /// Those that were accepted do not count towards `max_running`. One peer may use at most eight times as much as is free.
    /// A higher value allows more memory to be used: that of their handlers, and about 2 KiB each.
    pub max_streams: usize,
    /// The number of bytes of all streams of the server that may wait to be read; default 1 GiB.
    ///
    /// As `stream_memory` of `transport`, which limits one connection. One peer may take at most eight times as much as is
    /// free. A higher value lets many peers together occupy more memory.
    pub max_stream_memory: usize,
    /// How long a server waits between deregistration and GOAWAY; default 1 s.
    ///
    /// Consumers receive the change of the registry in this time.
    ///
    /// A higher value prolongs every shutdown.
    pub drain_notice: Duration,
    /// How long a draining server waits for running calls; default 30 s.
    ///
    /// A higher value may prolong a shutdown.
    pub drain_timeout: Duration,
    /// The limits of the transport of each connection.
    pub transport: TransportConfig,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            read_idle: Duration::from_secs(10),
            default_timeout: CallOptions::DEFAULT_TIMEOUT,
            max_timeout: Duration::from_secs(3600),
            max_in_flight: 1024,
            max_running: 10_000,
            adaptive_limit: false,
            max_queued: 256,
            queue_time: Duration::from_millis(100),
            max_unattended: Duration::from_secs(300),
            max_connections: 10_000,
            max_connections_per_ip: 1_000,
            max_connection_age: Duration::MAX,
            handshake_time: Duration::from_secs(2),
            max_pings: PingWindow::LIMIT,
            max_decompressed: Payload::MAX_DECOMPRESSED,
            compressions: Compression::SUPPORTED.to_vec(),
            once_kept: Duration::from_secs(600),
            max_once_calls: 100_000,
            max_once_bytes: 64 << 20,
            max_streams: 100_000,
            max_stream_memory: 1 << 30,
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
        with_max_timeout(max_timeout: Duration)
        with_max_in_flight(max_in_flight: usize)
        with_max_running(max_running: usize)
        with_adaptive_limit(adaptive_limit: bool)
        with_max_queued(max_queued: usize)
        with_queue_time(queue_time: Duration)
        with_max_unattended(max_unattended: Duration)
        with_max_connections(max_connections: usize)
        with_max_connections_per_ip(max_connections_per_ip: usize)
        with_max_connection_age(max_connection_age: Duration)
        with_handshake_time(handshake_time: Duration)
        with_max_pings(max_pings: u32)
        with_max_decompressed(max_decompressed: usize)
        with_compressions(compressions: Vec<Compression>)
        with_once_kept(once_kept: Duration)
        with_max_once_calls(max_once_calls: usize)
        with_max_once_bytes(max_once_bytes: usize)
        with_max_streams(max_streams: usize)
        with_max_stream_memory(max_stream_memory: usize)
        with_drain_notice(drain_notice: Duration)
        with_drain_timeout(drain_timeout: Duration)
        with_transport(transport: TransportConfig)
    }

    /// Rejects a config with which the server could not serve any call.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let reject = |setting: &str| {
            Err(Error::not_executed(Code::InvalidArgument, format!("ServerConfig::{setting} must not be 0")))
        };
        match () {
            () if self.read_idle.is_zero() => reject("read_idle"),
            () if self.default_timeout.is_zero() => reject("default_timeout"),
            () if self.max_timeout.is_zero() => reject("max_timeout"),
            () if self.max_in_flight == 0 => reject("max_in_flight"),
            () if self.max_running == 0 => reject("max_running"),
            () if self.max_unattended.is_zero() => reject("max_unattended"),
            () if self.max_connections == 0 => reject("max_connections"),
            () if self.max_connections_per_ip == 0 => reject("max_connections_per_ip"),
            () if self.max_connection_age.is_zero() => reject("max_connection_age"),
            () if self.handshake_time.is_zero() => reject("handshake_time"),
            () if self.max_pings == 0 => reject("max_pings"),
            () if self.max_decompressed == 0 => reject("max_decompressed"),
            () if self.max_streams == 0 => reject("max_streams"),
            () if self.max_once_calls == 0 => reject("max_once_calls"),
            () if self.max_once_bytes == 0 => reject("max_once_bytes"),
            () => self.transport.validate(),
        }
    }
}
