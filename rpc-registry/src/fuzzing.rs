//! Public entry points to the parsers of untrusted input, for fuzzers.

use rpc_core::{Instance, ServiceId};

use crate::address::HostPort;
#[cfg(unix)]
use crate::local;

/// Parses an announcement file of a `local:` registry.
///
/// Returns `None` if it is invalid or describes another service than `service`, and always on
/// systems other than Unix.
pub fn parse_announcement(text: &[u8], service: &ServiceId) -> Option<Instance> {
    #[cfg(unix)]
    return local::parse_announcement(text, service).ok();
    #[cfg(not(unix))]
    return Some((text, service)).and(None);
}

/// Parses an instance list in the JSON of Nacos.
///
/// Returns `None` if it is invalid, and always without the feature `nacos`.
pub fn parse_nacos_list(json: &[u8]) -> Option<Vec<Instance>> {
    #[cfg(feature = "nacos")]
    return crate::nacos::parse_list(json);
    #[cfg(not(feature = "nacos"))]
    return Some(json).and(None);
}

/// Parses `host` or `host:port` and returns it in the form `host:port`; the default port is 1.
pub fn parse_host_port(text: &str) -> Option<String> {
    HostPort::parse(text, Some(1)).ok().map(|address| address.to_string())
}
