//! [`Traits`]: the facts about a provider in its registration that routing uses.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rpc_core::Instance;

/// The facts about a provider in the metadata of its registration that routing uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    pub(crate) zone: Option<Arc<str>>,
    pub(crate) tags: Vec<Arc<str>>,
    /// When the provider started, in seconds since 1970.
    started: Option<u64>,
}

impl Traits {
    /// Reads the traits of an instance. A malformed entry counts as missing.
    pub(crate) fn of(instance: &Instance) -> Self {
        let entry =
            |key: &str| instance.metadata().get(key).map(|value| value.trim()).filter(|value| !value.is_empty());
        let mut tags: Vec<Arc<str>> =
            entry(Instance::TAGS).into_iter().flat_map(|tags| tags.split(',')).fold(Vec::new(), |mut tags, tag| {
                let tag = tag.trim();
                if !tag.is_empty() {
                    tags.push(Arc::from(tag));
                }
                tags
            });
        tags.sort_unstable();
        tags.dedup();
        let started = entry(Instance::STARTED).and_then(|seconds| seconds.parse().ok());
        Self { zone: entry(Instance::ZONE).map(Arc::from), tags, started }
    }

    /// Returns the age of the provider at `now`; `None` if its registration does not state its start.
    ///
    /// The clocks of two machines differ. A start in the future counts as now.
    pub(super) fn age(&self, now: SystemTime) -> Option<Duration> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(now.saturating_sub(Duration::from_secs(self.started?)))
    }

    /// Returns when the provider started, in seconds since 1970.
    pub(super) fn start(&self) -> Option<u64> {
        self.started
    }

    pub(super) fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| **own == *tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(entries: &[(&str, &str)]) -> Instance {
        let instance = Instance::new(([127, 0, 0, 1], 1).into());
        entries.iter().fold(instance, |instance, (key, value)| instance.with_metadata(*key, *value))
    }

    #[test]
    fn malformed_entries_count_as_missing() {
        let traits =
            Traits::of(&instance(&[("zone", "  "), ("tags", ", gray,,blue , gray"), ("started", "yesterday")]));
        assert_eq!((&traits.zone, traits.age(SystemTime::now())), (&None, None));
        assert_eq!(traits.tags.iter().map(|tag| &**tag).collect::<Vec<_>>(), ["blue", "gray"]);
        assert!(traits.has_tag("gray") && !traits.has_tag("gr"));
        assert_eq!(Traits::of(&instance(&[])), Traits::default());
    }

    #[test]
    fn start_in_the_future_counts_as_now() {
        let traits = Traits::of(&instance(&[("started", "100"), ("zone", "a")]));
        let age = |seconds| traits.age(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!([age(99), age(130)], [Some(Duration::ZERO), Some(Duration::from_secs(30))]);
        assert_eq!(traits.zone.as_deref(), Some("a"));
    }
}
