//! [`Scenario`]: faults of providers and their times.

use std::{ops::Range, time::Duration};

use super::{policy::Policy, provider::Fault};

/// A series of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// Four providers without faults, for comparison.
    Four,
    /// One of five providers fails at once.
    Fails,
    /// One of five providers hangs.
    Hangs,
    /// One of five providers is ten times slower.
    Slow,
    /// Every tenth call takes ten times longer, at each of five providers.
    Mixed,
    /// All five providers are down for 20 s.
    Outage,
    /// Each of five providers is replaced.
    Deploy,
    /// The providers of the client's zone, one of three, are down.
    Zone,
}

/// A change of the providers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Set(usize, Fault),
    Kill(usize),
    /// Starts a killed provider on its address.
    Restart(usize),
    /// Starts a provider, and stops this one gracefully.
    Replace(usize),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) at: Duration,
    pub(super) action: Action,
}

impl Scenario {
    pub(super) fn name(self, policy: Policy) -> String {
        let suffix = match policy {
            Policy::PeakEwma if self.compares_policies() => "-peak-ewma",
            Policy::TwoChoices if self.compares_policies() => "-two-choices",
            Policy::LatencyAware if self.compares_policies() => "-latency-aware",
            _ => "",
        };
        format!("{self:?}{suffix}").to_lowercase()
    }

    /// Returns the text above the chart.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Four => "four healthy providers",
            Self::Fails => "one of five providers fails at once from 5 to 20 s",
            Self::Hangs => "one of five providers hangs from 5 to 20 s",
            Self::Slow => "one of five providers is ten times slower from 5 to 25 s",
            Self::Mixed => "every tenth call takes ten times longer",
            Self::Outage => "all five providers are down from 5 to 25 s",
            Self::Deploy => "each of five providers is replaced, from 5 s on, one every 3 s",
            Self::Zone => "the two providers of the client's zone are down from 5 to 15 s",
        }
    }

    pub(super) fn compares_policies(self) -> bool {
        matches!(self, Self::Four | Self::Slow | Self::Mixed)
    }

    /// Returns the zone of each provider.
    pub(super) fn zones(self) -> &'static [&'static str] {
        match self {
            Self::Four => &[""; 4],
            Self::Zone => &["a", "a", "b", "b", "c", "c"],
            _ => &[""; 5],
        }
    }

    /// Returns the zone of the client.
    pub(super) fn zone(self) -> Option<String> {
        (self == Self::Zone).then(|| "a".to_owned())
    }

    /// Returns how many calls there are for each one that takes ten times longer.
    pub(super) fn heavy_calls(self) -> Option<u64> {
        (self == Self::Mixed).then_some(10)
    }

    pub(super) fn events(self) -> Vec<Event> {
        let event = |seconds: u64, action| Event { at: Duration::from_secs(seconds), action };
        let faulty = |fault, until| vec![event(5, Action::Set(0, fault)), event(until, Action::Set(0, Fault::None))];
        let down = |count: usize, until| {
            let killed = (0..count).map(|index| event(5, Action::Kill(index)));
            killed.chain((0..count).map(|index| event(until, Action::Restart(index)))).collect()
        };
        match self {
            Self::Four | Self::Mixed => Vec::new(),
            Self::Fails => faulty(Fault::Fails, 20),
            Self::Hangs => faulty(Fault::Hangs, 20),
            Self::Slow => faulty(Fault::Slow, 25),
            Self::Outage => down(5, 25),
            Self::Deploy => (0..5).map(|index| event(5 + 3 * index as u64, Action::Replace(index))).collect(),
            Self::Zone => down(2, 15),
        }
    }

    pub(super) fn length(self) -> Duration {
        Duration::from_secs(match self {
            Self::Four | Self::Mixed => 15,
            Self::Fails | Self::Hangs => 45,
            Self::Slow => 50,
            Self::Outage => 35,
            Self::Deploy => 30,
            Self::Zone => 45,
        })
    }

    /// Returns the phases that the table compares.
    pub(super) fn phases(self) -> impl Iterator<Item = (&'static str, Range<Duration>)> {
        let phase = |name, from: u64, to: u64| (name, Duration::from_secs(from)..Duration::from_secs(to));
        let end = self.length().as_secs();
        let phases = match self {
            Self::Four | Self::Mixed => vec![phase("all", 2, end)],
            Self::Fails => vec![phase("before", 1, 5), phase("first second", 5, 6), phase("then", 6, 20)],
            Self::Hangs => vec![phase("before", 1, 5), phase("first 2 seconds", 5, 7), phase("then", 7, 20)],
            Self::Slow => vec![phase("before", 1, 5), phase("slow", 5, 25)],
            Self::Outage => vec![phase("before", 1, 5), phase("down", 5, 25)],
            Self::Deploy => vec![phase("before", 1, 5), phase("deployment", 5, end)],
            Self::Zone => vec![phase("before", 1, 5), phase("down", 5, 15)],
        };
        let after = match self {
            Self::Fails | Self::Hangs => Some(20),
            Self::Slow => Some(25),
            Self::Outage => Some(26),
            Self::Zone => Some(15),
            Self::Four | Self::Mixed | Self::Deploy => None,
        };
        phases.into_iter().chain(after.map(|from| phase("after", from, end)))
    }

    /// Returns when the providers of an outage start again.
    pub(super) fn back_at(self) -> Duration {
        self.events().last().map_or(Duration::ZERO, |event| event.at)
    }
}
