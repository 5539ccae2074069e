//! [`EdgeConfig`]: the limits of client connections.

use std::{net::IpAddr, time::Duration};

use super::tls::EdgeTls;

/// The limits that a node imposes on client connections.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EdgeConfig {
    /// The time without a received frame after which a session is closed. Default: 150 s.
    ///
    /// With a higher value, the sessions of disconnected clients last longer.
    pub idle: Duration,
    /// The time within which a client must present its token. Default: 10 s.
    pub login_time: Duration,
    /// The time without progress of a write after which a session is closed. Default: 10 s.
    pub write_stall: Duration,
    /// The maximum length of a frame from a client, in bytes. Default: 64 KiB.
    ///
    /// A session may use this much memory.
    pub max_frame: usize,
    /// The maximum rate of requests of a user on this node, over all sessions of the user, per second. Default: 20.
    pub rate: u32,
    /// The number of requests that a user may send at once. Default: 40.
    pub burst: u32,
    /// The number of groups that a user may create on this node in an hour. Default: 60.
    pub groups_per_hour: u32,
    /// The number of members that a user may add to groups on this node in an hour. Default: 10 000.
    pub additions_per_hour: u32,
    /// The number of groups to which others may add a user on this node in a day. Default: 100.
    ///
    /// A lower value protects users from strangers who create groups with them, but lets strangers use up the additions
    /// that others need.
    pub additions_of_user_per_day: u32,
    /// The number of bytes that a user may store through this node in a day. Default: 64 MiB.
    ///
    /// A message counts with its body and 200 bytes.
    pub bytes_per_day: u64,
    /// The maximum number of connections of any kind. Default: 100 000.
    ///
    /// The node closes further ones on accept. Each session uses 9 KiB of memory.
    pub max_connections: usize,
    /// The maximum number of connections of one address. Default: 25 000.
    ///
    /// An IPv6 client counts with its whole network of 64 bits. The node closes further ones on accept. A higher value
    /// lets one host use more of `max_connections`.
    pub max_connections_per_ip: usize,
    /// The maximum number of connections that are not logged in. Default: 10 000.
    ///
    /// These are HTTP requests, handshakes and pages. A further one displaces the oldest one of the address with the
    /// most. A client that sends only the beginning of a request uses about 16 KiB of memory.
    pub max_entering: usize,
    /// The maximum number of connections of one address that are not logged in. Default: 1000.
    ///
    /// The node closes further ones on accept.
    pub max_entering_per_ip: usize,
    /// The maximum number of sides of pairing rooms, which need no account. Default: 10 000.
    ///
    /// Each is an entry in the directory. The node rejects further ones with status 503.
    pub max_rooms: usize,
    /// The maximum number of sides of pairing rooms of one address. Default: 100.
    ///
    /// The node rejects further ones with status 429.
    pub max_rooms_per_ip: usize,
    /// The time limit for the head of an HTTP request, for its body, and between requests. Default: 10 s.
    pub http_time: Duration,
    /// The addresses of reverse proxies in front of the node. Default: none.
    ///
    /// For their connections, the limits by address use the last address in the header `X-Forwarded-For`, and not the
    /// address of the proxy. A client at such an address could name any other address.
    pub trusted_proxies: Vec<IpAddr>,
    /// The origins of web pages that may use the node, such as `https://chat.example.com`. Default: none, which allows all.
    ///
    /// The node rejects requests of pages of other origins with status 403, for WebSockets, rooms, the login and the
    /// gate. The origins of the node's own chat page have to be in the list.
    pub allowed_origins: Vec<String>,
    /// The audience (`aud`) that tokens of users must have. Default: none, and tokens for an audience are rejected.
    ///
    /// It prevents that a token of another system with the same secret logs a user in.
    pub audience: Option<String>,
    /// The certificate for clients. Default: none, clients connect without TLS.
    pub tls: Option<EdgeTls>,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(150),
            login_time: Duration::from_secs(10),
            write_stall: Duration::from_secs(10),
            max_frame: 64 << 10,
            rate: 20,
            burst: 40,
            groups_per_hour: 60,
            additions_per_hour: 10_000,
            additions_of_user_per_day: 100,
            bytes_per_day: 64 << 20,
            max_connections: 100_000,
            max_connections_per_ip: 25_000,
            max_entering: 10_000,
            max_entering_per_ip: 1_000,
            max_rooms: 10_000,
            max_rooms_per_ip: 100,
            http_time: Duration::from_secs(10),
            trusted_proxies: Vec::new(),
            allowed_origins: Vec::new(),
            audience: None,
            tls: None,
        }
    }
}

impl EdgeConfig {
    rpc_core::setters! {
        with_idle(idle: Duration)
        with_login_time(login_time: Duration)
        with_write_stall(write_stall: Duration)
        with_groups_per_hour(groups_per_hour: u32)
        with_additions_per_hour(additions_per_hour: u32)
        with_additions_of_user_per_day(additions_of_user_per_day: u32)
        with_bytes_per_day(bytes_per_day: u64)
        with_max_connections(max_connections: usize)
        with_max_connections_per_ip(max_connections_per_ip: usize)
        with_max_entering(max_entering: usize)
        with_max_entering_per_ip(max_entering_per_ip: usize)
        with_max_rooms(max_rooms: usize)
        with_max_rooms_per_ip(max_rooms_per_ip: usize)
        with_http_time(http_time: Duration)
        with_trusted_proxies(trusted_proxies: Vec<IpAddr>)
        with_allowed_origins(allowed_origins: Vec<String>)
        with_audience(audience: Option<String>)
        with_tls(tls: Option<EdgeTls>)
    }

    /// Sets [`rate`](Self::rate) and [`burst`](Self::burst).
    #[must_use]
    pub fn with_rate(mut self, rate: u32, burst: u32) -> Self {
        (self.rate, self.burst) = (rate, burst);
        self
    }
}
