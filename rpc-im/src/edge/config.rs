//! [`EdgeConfig`]: what clients may do, and for how long.

use std::time::Duration;

/// What clients may do at a node, and for how long.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EdgeConfig {
    /// A session from which nothing was read for so long is closed. 150 s. Raised, sessions of clients that are gone stay longer.
    pub idle: Duration,
    /// The time that a client has to present its token. 10 s.
    pub login_time: Duration,
    /// A session that takes nothing of a write for so long is closed. 10 s.
    pub write_stall: Duration,
    /// The longest frame of a client, in bytes. 64 KiB. Raised, a session may cost as much more memory.
    pub max_frame: usize,
    /// What a client may ask for in a second: messages, conversations, syncs. 20.
    pub rate: u32,
    /// How much of that it may save up. 40.
    pub burst: u32,
    /// Connections at once, of any kind; further ones are closed as they come. 100 000. Raised, memory grows by 9 KiB for each session.
    pub max_connections: usize,
    /// Of them, those that are not logged in: requests, handshakes, pages. Further ones are closed as they come. 10 000. Raised, who
    /// sends nothing but beginnings of requests costs more memory, about 16 KiB each.
    pub max_entering: usize,
    /// The time of an HTTP request's head, of its body, and of a pause between requests. 10 s.
    pub http_time: Duration,
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
            max_connections: 100_000,
            max_entering: 10_000,
            http_time: Duration::from_secs(10),
        }
    }
}

impl EdgeConfig {
    rpc_core::setters! {
        with_idle(idle: Duration)
        with_login_time(login_time: Duration)
        with_write_stall(write_stall: Duration)
        with_max_connections(max_connections: usize)
        with_max_entering(max_entering: usize)
        with_http_time(http_time: Duration)
    }

    /// Sets [`rate`](Self::rate) and [`burst`](Self::burst).
    #[must_use]
    pub fn with_rate(mut self, rate: u32, burst: u32) -> Self {
        (self.rate, self.burst) = (rate, burst);
        self
    }
}
