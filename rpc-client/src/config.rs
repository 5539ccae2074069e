//! [`ClientConfig`]: the numbers of a client.

use std::{env, path::PathBuf, time::Duration};

use rpc_core::{CallOptions, Code, Codec, Compression, Error, Payload, transport::TransportConfig};

use crate::{connection::in_flight::InFlight, discovery::balance::Balance};

/// The numbers of a client. All have defaults that suit most; build one with `ClientConfig::default().with_…`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The time of a call when neither the caller nor its method says; default 5 s. Raised, callers wait longer for providers that
    /// hang, and idempotent methods try another provider later, as an attempt has a third of the time.
    pub timeout: Duration,
    /// How arguments are serialized when the caller does not say; default bincode.
    pub codec: Codec,
    /// How arguments are compressed when the caller does not say; default not at all.
    pub compression: Compression,
    /// How one of several providers is chosen; default power of two choices.
    pub balance: Balance,
    /// Whether a call waits, to its deadline, for a provider that answers when there is none; default false: it fails at once.
    pub wait_for_ready: bool,
    /// The time of one attempt to connect; default 3 s. Raised, a black hole holds the calls that wait for it longer.
    pub connect_timeout: Duration,
    /// A ping is sent when nothing was written for this long; default 3 s. It must stay well below the servers' read idle of
    /// 10 s, or idle connections are closed.
    pub ping_after: Duration,
    /// A connection is dead when a ping is unanswered for this long and nothing else was read; default 5 s. Raised, a dead
    /// provider is found later; lowered, a busy one is taken for dead.
    pub pong_timeout: Duration,
    /// How long a provider that has left the registry's list without a goodbye stays in use while it answers, where one that is
    /// listed answers too; default 60 s. Raised, a registry that lost its memory loses no capacity for longer; lowered,
    /// providers that were taken off are left sooner.
    pub delisted_grace: Duration,
    /// Calls in flight on one connection; default 1024, as at the server, at most 1 000 000. More wait for a place until their
    /// deadline, and then fail with `ResourceExhausted`. Raised over the server's own bound, it refuses what is over that.
    pub max_in_flight: usize,
    /// Connections to one address; default 1, at most 64. Raised, a slow connection holds up fewer calls, and more memory and
    /// file descriptors are held on both ends.
    pub lanes: usize,
    /// The longest payload once decompressed, in bytes; default 16 MiB. Raised, one answer can make this process hold more.
    pub max_decompressed: usize,
    /// Where lists of providers are kept for a start while the registry is down; default `$XDG_CACHE_HOME/msnb`, else
    /// `~/.cache/msnb`. `None` keeps none. A list that cannot be written or read is no error; it is missing when it is needed.
    pub cache_directory: Option<PathBuf>,
    /// How long the registry may take for its first answer before the list on disk is used; default 500 ms. Raised, the first
    /// calls wait longer while the registry is down; lowered, an old list is used when it is merely slow.
    pub registry_patience: Duration,
    /// Makes what the client does repeatable, for simulations: its random numbers come from this seed, and its connects count
    /// for itself and not for the process; default none. Set in production, clients back off and choose in step.
    pub seed: Option<u64>,
    /// The bounds of each connection's transport.
    pub transport: TransportConfig,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            timeout: CallOptions::DEFAULT_TIMEOUT,
            codec: Codec::default(),
            compression: Compression::None,
            balance: Balance::default(),
            wait_for_ready: false,
            connect_timeout: Duration::from_secs(3),
            ping_after: Duration::from_secs(3),
            pong_timeout: Duration::from_secs(5),
            delisted_grace: Duration::from_secs(60),
            max_in_flight: 1024,
            lanes: 1,
            max_decompressed: Payload::MAX_DECOMPRESSED,
            cache_directory: default_cache_directory(),
            registry_patience: Duration::from_millis(500),
            seed: None,
            transport: TransportConfig::default(),
        }
    }
}

impl ClientConfig {
    rpc_core::setters! {
        with_timeout(timeout: Duration)
        with_codec(codec: Codec)
        with_compression(compression: Compression)
        with_balance(balance: Balance)
        with_wait_for_ready(wait_for_ready: bool)
        with_connect_timeout(connect_timeout: Duration)
        with_ping_after(ping_after: Duration)
        with_pong_timeout(pong_timeout: Duration)
        with_delisted_grace(delisted_grace: Duration)
        with_max_in_flight(max_in_flight: usize)
        with_lanes(lanes: usize)
        with_max_decompressed(max_decompressed: usize)
        with_cache_directory(cache_directory: Option<PathBuf>)
        with_registry_patience(registry_patience: Duration)
        with_seed(seed: Option<u64>)
        with_transport(transport: TransportConfig)
    }

    /// Refuses numbers with which no call could ever succeed.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::not_executed(Code::InvalidArgument, format!("the client's {what}")));
        match () {
            () if self.timeout.is_zero() => refuse("timeout must not be 0"),
            () if self.connect_timeout.is_zero() => refuse("connect_timeout must not be 0"),
            () if self.ping_after.is_zero() => refuse("ping_after must not be 0"),
            () if self.pong_timeout.is_zero() => refuse("pong_timeout must not be 0"),
            () if !(1..=InFlight::MAX).contains(&self.max_in_flight) => refuse("max_in_flight must be 1 to 1 000 000"),
            () if !(1..=MAX_LANES).contains(&self.lanes) => refuse("lanes must be 1 to 64"),
            () if self.max_decompressed == 0 => refuse("max_decompressed must not be 0"),
            () => self.transport.validate(),
        }
    }
}

fn default_cache_directory() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("msnb"))
}

const MAX_LANES: usize = 64;
