//! [`ClientConfig`]: the settings of a client.

use std::{env, path::PathBuf, sync::Arc, time::Duration};

use rpc_core::{CallOptions, Code, Codec, Compression, Error, Hedging, Payload, transport::TransportConfig};

use crate::{
    connection::in_flight::InFlightTable,
    discovery::{balance::Balance, balancer::Balancer},
};

/// The settings of a client.
///
/// The defaults suit most programs. Build one with `ClientConfig::default().with_…`; `ClientBuilder::build` validates
/// it. A time of `Duration::MAX` is unlimited.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The timeout of a call when neither the caller nor the method sets one; default 5 s.
    ///
    /// A higher value lets callers wait longer for providers that hang. It also delays the hedges of idempotent
    /// methods, because an attempt has a third of the time that its call has left.
    pub timeout: Duration,
    /// The codec of arguments when the caller sets none; default bincode.
    pub codec: Codec,
    /// The compression of arguments when the caller sets none; default none.
    pub compression: Compression,
    /// The load-balancing policy; default power of two choices that avoids much slower providers.
    pub balance: Balance,
    /// The load-balancing policy of the program, which replaces [`balance`](Self::balance); default none.
    pub balancer: Option<Arc<dyn Balancer>>,
    /// The retries of a call after its first attempt, hedges included; default 2, at most 16.
    ///
    /// The retry budget of the client limits the retries of all calls together.
    pub retries: u32,
    /// When an attempt that is not answered is hedged; default after a third of the time that its call has left.
    ///
    /// A call that is slower than this executes its handler at two providers.
    pub hedging: Hedging,
    /// Whether providers are ejected whose calls fail while those of others succeed; default true.
    ///
    /// The client does not pick an ejected provider for 2 s, and for longer each time, at most for 60 s. Then it sends it one
    /// call at a time until three are answered. A service ejects at most half of its providers. While fewer than half of them
    /// accept calls and are not ejected, it uses all.
    pub outlier_ejection: bool,
    /// The time over which the share of a provider grows that has just started or returned from an ejection; default 30 s.
    ///
    /// It begins with a tenth of its weight. `Duration::ZERO` gives it the whole share at once.
    pub slow_start: Duration,
    /// The zone of this process; default the environment variable `MSNB_ZONE`, if it is set and not empty.
    ///
    /// The client prefers the providers of this zone while they have their part of the capacity. Otherwise it sends as many
    /// calls to other zones as exceed it.
    pub zone: Option<String>,
    /// The number of providers to which the client connects if a service has more than 100; default 20.
    ///
    /// The client replaces providers that fail. A higher value spreads the calls of one client more evenly, and costs
    /// providers and client more connections. `None` connects to all. The first call with an affinity key does so too, for
    /// its service, because all clients must agree on the owner of a key.
    pub subset: Option<usize>,
    /// The number of this client among the clients of its kind, from 0 on, such as the ordinal of its pod; default none.
    ///
    /// With it, clients with consecutive numbers connect to consecutive providers, so that each provider has the same number
    /// of clients. Without it, the client draws its subset at random, which is even only over many clients.
    pub client_number: Option<u32>,
    /// Whether a call waits until its deadline for a provider when none is ready; default false.
    ///
    /// Otherwise the call fails at once.
    pub wait_for_ready: bool,
    /// The timeout of one connect, the TLS handshake included; default 3 s.
    ///
    /// A higher value delays calls that wait for an address which drops packets.
    pub connect_timeout: Duration,
    /// How long a connection may write nothing before it sends a ping; default 3 s.
    ///
    /// It must stay well below the servers' read idle time of 10 s, or servers close idle connections.
    pub ping_after: Duration,
    /// How long a peer may send nothing after a ping before the client closes the connection; default 5 s.
    ///
    /// A higher value delays the detection of a dead provider; with a lower one a busy provider counts as dead.
    pub pong_timeout: Duration,
    /// How long a provider stays in use after the registry stopped listing it; default 60 s.
    ///
    /// It applies to a provider that answers and has sent no GOAWAY, and only while a listed provider answers too. With
    /// a higher value, clients keep their providers for longer while a registry has lost its data; with a lower one,
    /// they leave removed providers sooner.
    pub delisted_grace: Duration,
    /// The largest number of calls in flight on one connection; default 1024, at most 1 000 000.
    ///
    /// Further calls wait until their deadline for a free slot and then fail with `ResourceExhausted`. A server rejects
    /// the calls that exceed its own limit, which has the same default.
    pub max_in_flight: usize,
    /// The number of connections to one address; default 1, at most 64.
    ///
    /// With a higher value a slow connection delays fewer calls, and both ends hold more memory and file descriptors.
    pub lanes: usize,
    /// The compressions that the client accepts in responses; default all of this build.
    ///
    /// A response with another compression fails its call with `Internal`. Uncompressed payloads are always accepted.
    /// [`compression`](Self::compression) states the compression of requests, in which servers answer if the client
    /// accepts it; otherwise the client requests an uncompressed response.
    pub compressions: Vec<Compression>,
    /// The largest decompressed payload in bytes; default 16 MiB.
    ///
    /// It limits the memory that one answer takes.
    pub max_decompressed: usize,
    /// The directory of the provider lists on disk, for a start while the registry is down.
    ///
    /// Default `$XDG_CACHE_HOME/msnb`, or `~/.cache/msnb`. `None` stores no lists.
    ///
    /// A list that the client cannot write or read causes no error; it is only missing when the registry is down.
    pub cache_directory: Option<PathBuf>,
    /// How long the client waits for the registry before it uses the list on disk; default 500 ms.
    ///
    /// A higher value delays the first calls while the registry is down; with a lower one a merely slow registry causes
    /// the use of an old list.
    pub registry_patience: Duration,
    /// The seed of the client's random numbers, for repeatable simulations; default none.
    ///
    /// A client with a seed also limits its connects by itself instead of sharing the limit of the process. Clients
    /// with the same seed back off and pick providers in step, so production must not set it.
    pub seed: Option<u64>,
    /// The limits of each connection's transport.
    pub transport: TransportConfig,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            timeout: CallOptions::DEFAULT_TIMEOUT,
            codec: Codec::default(),
            compression: Compression::None,
            balance: Balance::default(),
            balancer: None,
            retries: MAX_RETRIES,
            hedging: Hedging::default(),
            outlier_ejection: true,
            slow_start: Duration::from_secs(30),
            subset: Some(20),
            client_number: None,
            zone: env::var("MSNB_ZONE").ok().filter(|zone| !zone.is_empty()),
            wait_for_ready: false,
            connect_timeout: Duration::from_secs(3),
            ping_after: Duration::from_secs(3),
            pong_timeout: Duration::from_secs(5),
            delisted_grace: Duration::from_secs(60),
            max_in_flight: 1024,
            lanes: 1,
            compressions: Compression::SUPPORTED.to_vec(),
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
        with_retries(retries: u32)
        with_hedging(hedging: Hedging)
        with_outlier_ejection(outlier_ejection: bool)
        with_slow_start(slow_start: Duration)
        with_zone(zone: Option<String>)
        with_subset(subset: Option<usize>)
        with_client_number(client_number: Option<u32>)
        with_wait_for_ready(wait_for_ready: bool)
        with_connect_timeout(connect_timeout: Duration)
        with_ping_after(ping_after: Duration)
        with_pong_timeout(pong_timeout: Duration)
        with_delisted_grace(delisted_grace: Duration)
        with_max_in_flight(max_in_flight: usize)
        with_lanes(lanes: usize)
        with_compressions(compressions: Vec<Compression>)
        with_max_decompressed(max_decompressed: usize)
        with_cache_directory(cache_directory: Option<PathBuf>)
        with_registry_patience(registry_patience: Duration)
        with_seed(seed: Option<u64>)
        with_transport(transport: TransportConfig)
    }

    /// Sets a load-balancing policy of the program.
    #[must_use]
    pub fn with_balancer(mut self, balancer: impl Balancer) -> Self {
        self.balancer = Some(Arc::new(balancer));
        self
    }

    /// Rejects settings with which no call can succeed.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let invalid = |setting: &str, value: &dyn std::fmt::Debug, range: &str| {
            let message = format!("ClientConfig::{setting} is {value:?}, must be {range}");
            Err(Error::not_executed(Code::InvalidArgument, message))
        };
        match self {
            Self { timeout, .. } if timeout.is_zero() => invalid("timeout", timeout, POSITIVE),
            Self { connect_timeout, .. } if connect_timeout.is_zero() => {
                invalid("connect_timeout", connect_timeout, POSITIVE)
            }
            Self { ping_after, .. } if ping_after.is_zero() => invalid("ping_after", ping_after, POSITIVE),
            Self { pong_timeout, .. } if pong_timeout.is_zero() => invalid("pong_timeout", pong_timeout, POSITIVE),
            Self { max_in_flight, .. } if !(1..=InFlightTable::MAX).contains(max_in_flight) => {
                invalid("max_in_flight", max_in_flight, &format!("1 to {}", InFlightTable::MAX))
            }
            Self { lanes, .. } if !(1..=MAX_LANES).contains(lanes) => {
                invalid("lanes", lanes, &format!("1 to {MAX_LANES}"))
            }
            Self { retries, .. } if *retries > CallOptions::MAX_RETRIES => {
                invalid("retries", retries, &format!("at most {}", CallOptions::MAX_RETRIES))
            }
            Self { subset: Some(0), .. } => invalid("subset", &0, POSITIVE),
            Self { max_decompressed: 0, .. } => invalid("max_decompressed", &0, POSITIVE),
            _ => self.transport.validate(),
        }
    }
}

fn default_cache_directory() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("msnb"))
}

/// The default of [`ClientConfig::retries`].
const MAX_RETRIES: u32 = 2;
const MAX_LANES: usize = 64;
const POSITIVE: &str = "greater than 0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_names_setting_value_and_range() {
        let message = |config: ClientConfig| config.validate().unwrap_err().message().to_owned();
        let config = ClientConfig::default;
        assert!(config().validate().is_ok());
        assert!(config().with_lanes(64).with_max_in_flight(1_000_000).validate().is_ok());
        assert_eq!(message(config().with_lanes(65)), "ClientConfig::lanes is 65, must be 1 to 64");
        assert_eq!(
            message(config().with_max_in_flight(1_000_001)),
            "ClientConfig::max_in_flight is 1000001, must be 1 to 1000000"
        );
        assert_eq!(
            message(config().with_timeout(Duration::ZERO)),
            "ClientConfig::timeout is 0ns, must be greater than 0"
        );
    }
}
