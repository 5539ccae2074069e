//! [`Compatibility`]: whether the contracts of caller and provider are compatible, where they differ.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::{sync::OnceCell, time::Instant};

/// The contracts of a method at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Contracts {
    /// The hash of the route.
    pub(crate) route: u64,
    /// The digest of the caller's contract.
    pub(crate) caller: u64,
    /// The digest of the provider's contract.
    pub(crate) provider: u64,
}

/// Whether caller and provider understand each other.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    /// They do in a codec that writes names.
    ByName,
    /// The provider does not describe its contract. A codec that writes names finds most differences.
    Unchecked {
        /// When the contracts are compared again, because the provider may describe its contract then.
        until: Option<Instant>,
    },
    /// They do not, for this reason.
    Incompatible(Arc<str>),
}

/// The verdicts about the contracts that this client has met.
///
/// A digest stands for all that reaches the wire, so a verdict remains valid, except one without a comparison.
#[derive(Debug, Default)]
pub(crate) struct Compatibility(DashMap<Contracts, Arc<OnceCell<Verdict>>, foldhash::fast::RandomState>);

impl Compatibility {
    /// Returns the verdict, if the contracts were compared.
    pub(crate) fn verdict(&self, contracts: Contracts) -> Option<Verdict> {
        let verdict = self.0.get(&contracts)?.get().cloned()?;
        if let Verdict::Unchecked { until: Some(until) } = verdict
            && Instant::now() >= until
        {
            self.0.remove(&contracts);
            return None;
        }
        Some(verdict)
    }

    /// Returns the cell of the verdict, which the first of the calls that need it sets.
    pub(crate) fn cell(&self, contracts: Contracts) -> Arc<OnceCell<Verdict>> {
        if self.0.len() >= MAX_VERDICTS {
            self.0.clear();
        }
        Arc::clone(&self.0.entry(contracts).or_default())
    }
}

/// The largest number of verdicts that a client keeps.
const MAX_VERDICTS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_comparison_is_repeated_later() {
        let compatibility = Compatibility::default();
        let contracts = Contracts { route: 1, caller: 1, provider: 2 };
        let now = Instant::now();
        let set = |until| compatibility.cell(contracts).set(Verdict::Unchecked { until });
        set(Some(now + std::time::Duration::from_secs(60))).expect("the cell is new");
        assert!(compatibility.verdict(contracts).is_some());
        compatibility.0.clear();
        set(Some(now)).expect("the cell is new");
        assert!(compatibility.verdict(contracts).is_none());
        set(None).expect("the earlier one was removed");
        assert!(compatibility.verdict(contracts).is_some());
    }

    #[test]
    fn verdicts_are_forgotten_above_the_limit() {
        let compatibility = Compatibility::default();
        let contracts = |route| Contracts { route, caller: 1, provider: 2 };
        for route in 0..MAX_VERDICTS as u64 {
            compatibility.cell(contracts(route)).set(Verdict::ByName).expect("the cell is new");
        }
        assert!(compatibility.verdict(contracts(0)).is_some());
        compatibility.cell(contracts(MAX_VERDICTS as u64));
        assert!(compatibility.verdict(contracts(0)).is_none());
    }
}
