//! Ways into what reads foreign input, for fuzzers.

use rpc_core::{Instance, ServiceId};

use crate::{address::HostPort, local};

/// What the file of a `local:` registry says of a provider of `service`; `None` where it says nothing that is understood.
pub fn announced(text: &[u8], service: &ServiceId) -> Option<Instance> {
    local::announced(text, service).ok()
}

/// The instances of a list in the JSON of Nacos; `None` where it is no list, and without the feature `nacos`.
pub fn listed_by_nacos(json: &[u8]) -> Option<Vec<Instance>> {
    #[cfg(feature = "nacos")]
    return crate::nacos::listed(json);
    #[cfg(not(feature = "nacos"))]
    return Some(json).and(None);
}

/// An address as a person writes it, with the port that it means.
pub fn host_and_port(text: &str) -> Option<String> {
    HostPort::parse(text, Some(1)).ok().map(|address| address.to_string())
}
