//! [`Instance`]: one provider of a service, as a registry lists it.

use std::{collections::BTreeMap, net::SocketAddr};

/// One provider of a service: where it is reached, and how much of the load it wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    address: SocketAddr,
    weight: f64,
    enabled: bool,
    metadata: BTreeMap<String, String>,
}

impl Instance {
    /// The weight of an instance that asks for none.
    pub const DEFAULT_WEIGHT: f64 = 1.0;
    /// The largest weight; Nacos takes no larger one.
    pub const MAX_WEIGHT: f64 = 10_000.0;

    /// The key in the metadata of the name that a provider's certificate has, where it is not its address.
    pub const TLS_NAME: &str = "tls-name";

    /// A provider at `address`, with weight 1 and no metadata.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, weight: Self::DEFAULT_WEIGHT, enabled: true, metadata: BTreeMap::new() }
    }

    /// Sets the share of the load relative to other instances: 0 (none) to 10 000. What is out of range is brought
    /// into it, and what is not a number becomes 1, because a registry may hold whatever somebody typed.
    #[must_use]
    pub fn with_weight(mut self, weight: f64) -> Self {
        self.weight = if weight.is_nan() { Self::DEFAULT_WEIGHT } else { weight.clamp(0.0, Self::MAX_WEIGHT) };
        self
    }

    /// Sets whether the instance may be called; `true` by default. An operator disables one in the registry.
    #[must_use]
    pub fn with_enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Adds one entry of metadata.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Where the provider listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The share of the load, relative to the other instances of the service.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// Whether the instance may be called. One that an operator has disabled is never called, even if it is the only one.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// What the provider says of itself: `protocol`, `codecs`, `started`, and [`TLS_NAME`](Self::TLS_NAME) where it has one.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_stays_in_range() {
        let weigh = |w| Instance::new(([127, 0, 0, 1], 1).into()).with_weight(w).weight();
        assert_eq!([weigh(-1.0), weigh(0.5), weigh(1e9), weigh(f64::NAN)], [0.0, 0.5, 10_000.0, 1.0]);
    }
}
