//! The limit of open files of the process, which limits the connections of a node.

use rpc_core::contained;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::edge::EdgeConfig;

/// Raises the limit of open files of this process to its maximum, the hard limit; returns it, `None` without one.
pub(super) fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        // macOS has an undocumented maximum below the hard limit.
        Err(_) => current,
    }
}

/// Lowers the limits of connections so that they fit a limit of open files.
///
/// Otherwise clients could use all files, and the store, the directory and other nodes would be unreachable.
pub(super) fn fit(config: EdgeConfig, open_files: Option<u64>) -> EdgeConfig {
    let Some(open_files) = open_files.and_then(|limit| usize::try_from(limit).ok()) else { return config };
    let most = open_files.saturating_sub(RESERVED).max(open_files / 2);
    if most >= config.max_connections {
        contained(|| info!(open_files, max_connections = config.max_connections, "the limit of open files suffices"));
        return config;
    }
    contained(|| {
        warn!(open_files, max_connections = most, "the limit of open files lowers the limits of connections: raise it");
    });
    // Each limit keeps its share of all connections.
    let scaled = |limit: usize| (limit as u64 * most as u64 / config.max_connections as u64).max(1) as usize;
    let (per_ip, entering) = (scaled(config.max_connections_per_ip), scaled(config.max_entering));
    let (entering_per_ip, rooms) = (scaled(config.max_entering_per_ip), scaled(config.max_rooms));
    let rooms_per_ip = scaled(config.max_rooms_per_ip);
    config
        .with_max_connections(most)
        .with_max_connections_per_ip(per_ip)
        .with_max_entering(entering)
        .with_max_entering_per_ip(entering_per_ip)
        .with_max_rooms(rooms)
        .with_max_rooms_per_ip(rooms_per_ip)
}

/// The number of open files that are reserved for the store, the directory, other nodes and the log; at most half.
const RESERVED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_connections_fit_the_open_files() {
        let default = EdgeConfig::default;
        for enough in [None, Some(u64::MAX), Some((default().max_connections + RESERVED) as u64)] {
            assert_eq!(fit(default(), enough).max_connections, default().max_connections);
        }
        for (open_files, expected) in [(100_255, 99_999), (10_256, 10_000), (1024, 768), (400, 200), (0, 0)] {
            let fitted = fit(default(), Some(open_files));
            assert_eq!(fitted.max_connections, expected, "{open_files}");
            assert!(fitted.max_connections_per_ip <= (expected / 2).max(1) && fitted.max_entering_per_ip >= 1);
        }
    }
}
