//! [`Entry`]: the data of one instance on the server.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use rpc_core::Instance;
use serde::{Deserialize, Serialize};

use crate::InstanceChange;

/// The data of one instance on the server: the registration of its provider, or a change of an operator.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) address: SocketAddr,
    pub(crate) kind: Kind,
    /// JSON.
    pub(crate) data: String,
}

/// The kind of an [`Entry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A registration: the server removes it when the session of the provider ends.
    Provider,
    /// A change of an operator, which remains.
    Change,
}

/// The data of a registration. Unknown fields are ignored.
#[derive(Debug, Serialize, Deserialize)]
struct Registration {
    #[serde(default = "default_weight")]
    weight: f64,
    #[serde(default = "default_enabled")]
    enabled: bool,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// The data of a change.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Changed {
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
}

impl Entry {
    /// Returns the entry of a provider.
    pub(crate) fn registered(instance: &Instance) -> Self {
        let registration = Registration {
            weight: instance.weight(),
            enabled: instance.is_enabled(),
            metadata: instance.metadata().clone(),
        };
        Self { address: instance.address(), kind: Kind::Provider, data: json(&registration) }
    }

    /// Returns the entry of a change.
    pub(crate) fn changed(address: SocketAddr, change: InstanceChange) -> Self {
        let InstanceChange { enabled, weight } = change;
        Self { address, kind: Kind::Change, data: json(&Changed { weight, enabled }) }
    }

    /// Returns the name of the entry among those of its service.
    pub(crate) fn name(&self) -> String {
        match self.kind {
            Kind::Provider => self.address.to_string(),
            Kind::Change => format!("{}{CHANGE}", self.address),
        }
    }

    /// Returns the entry with a name and data; `None` if it is not one of msnb, or too long.
    pub(crate) fn parse(name: &str, data: &[u8]) -> Option<Self> {
        let (address, kind) = match name.strip_suffix(CHANGE) {
            Some(address) => (address, Kind::Change),
            None => (name, Kind::Provider),
        };
        let data = std::str::from_utf8(data).ok().filter(|data| data.len() <= MAX_DATA)?;
        Some(Self { address: address.parse().ok()?, kind, data: data.to_owned() })
    }

    fn instance(&self) -> Option<Instance> {
        let Registration { weight, enabled, metadata } = serde_json::from_str(&self.data).ok()?;
        let instance = Instance::new(self.address).with_weight(weight).with_enabled(enabled);
        Some(metadata.into_iter().fold(instance, |instance, (key, value)| instance.with_metadata(key, value)))
    }

    fn change(&self) -> InstanceChange {
        let Changed { weight, enabled } = serde_json::from_str(&self.data).unwrap_or_default();
        InstanceChange { enabled, weight }
    }
}

/// Returns the instances in the entries of a service with the changes applied, sorted by address.
pub(crate) fn instances(entries: &[Entry]) -> Vec<Instance> {
    let changes: HashMap<SocketAddr, InstanceChange> =
        of_kind(entries, Kind::Change).map(|entry| (entry.address, entry.change())).collect();
    let mut instances: Vec<Instance> = of_kind(entries, Kind::Provider)
        .filter_map(|entry| {
            let change = changes.get(&entry.address).copied().unwrap_or_default();
            Some(change.apply(entry.instance()?))
        })
        .collect();
    instances.sort_by_key(Instance::address);
    instances.dedup_by_key(|instance| instance.address());
    instances
}

/// Returns the change of an instance after another one.
pub(crate) fn changes(entries: &[Entry], address: SocketAddr, change: InstanceChange) -> InstanceChange {
    let earlier = of_kind(entries, Kind::Change).find(|entry| entry.address == address).map(Entry::change);
    let InstanceChange { enabled, weight } = earlier.unwrap_or_default();
    InstanceChange { enabled: change.enabled.or(enabled), weight: change.weight.or(weight) }
}

fn of_kind(entries: &[Entry], kind: Kind) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(move |entry| entry.kind == kind)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("numbers, booleans and text are valid JSON")
}

fn default_weight() -> f64 {
    Instance::DEFAULT_WEIGHT
}

fn default_enabled() -> bool {
    true
}

/// The end of the name of a change.
const CHANGE: &str = "~change";
/// The longest data of an entry, in bytes; longer ones are ignored.
const MAX_DATA: usize = 64 << 10;
/// The largest number of entries of a service; further ones are ignored.
pub(crate) const MAX_ENTRIES: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Instance {
        Instance::new(([10, 0, 0, 1], 7788).into()).with_weight(2.0).with_metadata("zone", "a")
    }

    fn parsed(entry: &Entry) -> Entry {
        Entry::parse(&entry.name(), entry.data.as_bytes()).unwrap()
    }

    #[test]
    fn instance_round_trips_with_its_changes() {
        let provider = Entry::registered(&instance());
        assert_eq!(parsed(&provider), provider);
        assert_eq!(instances(std::slice::from_ref(&provider)), [instance()]);
        let disabled = InstanceChange { enabled: Some(false), weight: None };
        let mut entries = vec![provider, Entry::changed(instance().address(), disabled)];
        assert_eq!(parsed(&entries[1]), entries[1]);
        assert_eq!(instances(&entries), [instance().with_enabled(false)]);
        let heavier = InstanceChange { enabled: None, weight: Some(5.0) };
        let both = changes(&entries, instance().address(), heavier);
        entries[1] = Entry::changed(instance().address(), both);
        assert_eq!(instances(&entries), [instance().with_enabled(false).with_weight(5.0)]);
        assert_eq!(instances(&entries[1..]), [], "a change without a provider");
    }

    #[test]
    fn other_entries_are_ignored() {
        for (name, data) in [("x", "{}"), ("10.0.0.1", "{}"), ("10.0.0.1:1~other", "{}")] {
            assert_eq!(Entry::parse(name, data.as_bytes()), None, "{name}");
        }
        assert_eq!(Entry::parse("10.0.0.1:1", &[0xff]), None);
        assert_eq!(Entry::parse("10.0.0.1:1", &vec![b' '; MAX_DATA + 1]), None);
        let broken = Entry::parse("10.0.0.1:1", b"1").unwrap();
        assert_eq!(instances(&[broken]), []);
        let minimal = Entry::parse("[::1]:1", b"{}").unwrap();
        assert_eq!(instances(&[minimal]), [Instance::new("[::1]:1".parse().unwrap())]);
    }
}
