//! [`Instance`]: one registration of a provider.

use std::{collections::BTreeMap, net::SocketAddr};

/// One registration of a provider: its address, its share of the load and its metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    address: SocketAddr,
    weight: f64,
    enabled: bool,
    metadata: BTreeMap<String, String>,
}

impl Instance {
    /// The default weight.
    pub const DEFAULT_WEIGHT: f64 = 1.0;
    /// The largest weight, which is that of Nacos.
    pub const MAX_WEIGHT: f64 = 10_000.0;

    /// The metadata key of the name in a provider's certificate.
    ///
    /// A provider sets it if its certificate does not contain its IP address.
    pub const TLS_NAME: &str = "tls-name";

    /// The metadata key of the digest of the service's contract, 16 hexadecimal digits.
    ///
    /// It is for operators: a client relies on the digests that it receives from the provider when it connects.
    pub const CONTRACT: &str = "contract";

    /// The metadata key of the zone in which the provider runs, such as a data center.
    pub const ZONE: &str = "zone";

    /// The metadata key of the provider's tags, separated by commas.
    pub const TAGS: &str = "tags";

    /// The metadata key of the time at which the provider started, in seconds since 1970.
    pub const STARTED: &str = "started";

    /// Creates an enabled instance at `address`, with weight 1 and no metadata.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, weight: Self::DEFAULT_WEIGHT, enabled: true, metadata: BTreeMap::new() }
    }

    /// Sets the share of the load relative to other instances, from 0 (no load) to 10 000.
    ///
    /// Values outside this range are clamped and NaN becomes 1, because operators enter weights by hand.
    #[must_use]
    pub fn with_weight(mut self, weight: f64) -> Self {
        self.weight = if weight.is_nan() { Self::DEFAULT_WEIGHT } else { weight.clamp(0.0, Self::MAX_WEIGHT) };
        self
    }

    /// Sets whether clients may call the instance; default `true`.
    ///
    /// Operators disable instances in the registry.
    #[must_use]
    pub fn with_enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Adds a metadata entry.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Returns the address on which the provider listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the share of the load, relative to the other instances of the service.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// Returns whether clients may call the instance.
    ///
    /// Clients never call a disabled instance, even if it is the only one.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Returns the metadata that the provider registered.
    ///
    /// The keys are `protocol`, `codecs`, [`STARTED`](Self::STARTED), [`CONTRACT`](Self::CONTRACT), and optionally
    /// [`TLS_NAME`](Self::TLS_NAME), [`ZONE`](Self::ZONE) and [`TAGS`](Self::TAGS).
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_is_clamped() {
        let weigh = |w| Instance::new(([127, 0, 0, 1], 1).into()).with_weight(w).weight();
        assert_eq!([weigh(-1.0), weigh(0.5), weigh(1e9), weigh(f64::NAN)], [0.0, 0.5, 10_000.0, 1.0]);
    }
}
