//! [`Report`]: how a talk went.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use crate::{latencies::Latencies, timeline::Timeline};

/// How a talk went, in all and over time.
pub(crate) struct Report {
    pub(crate) sent: u64,
    pub(crate) stored: u64,
    pub(crate) arrived: u64,
    /// How often a session was told that it lags.
    pub(crate) lagged: u64,
    until_stored: Latencies,
    until_arrived: Latencies,
    failures: BTreeMap<String, u64>,
    /// Of those that arrived, by when they were due.
    pub(crate) timeline: Timeline,
    /// What was to be sent before is not counted.
    warm: Duration,
}

impl Report {
    /// For a talk of this length after this much warm-up.
    pub(crate) fn new(warm: Duration, length: Duration) -> Self {
        Self {
            sent: 0,
            stored: 0,
            arrived: 0,
            lagged: 0,
            until_stored: Latencies::default(),
            until_arrived: Latencies::default(),
            failures: BTreeMap::new(),
            timeline: Timeline::new(length),
            warm,
        }
    }

    /// Whether what is due then counts.
    pub(crate) fn counts(&self, due: Duration) -> bool {
        due >= self.warm
    }

    /// A message that was due then is known to be safe.
    pub(crate) fn stored(&mut self, now: Duration, due: Duration) {
        if self.counts(due) {
            self.stored += 1;
            self.until_stored.record(now.saturating_sub(due));
        }
    }

    /// A message that was due then has reached one who it was for.
    pub(crate) fn arrived(&mut self, now: Duration, due: Duration) {
        if !self.counts(due) {
            return;
        }
        let latency = now.saturating_sub(due);
        self.timeline.record(due - self.warm, latency);
        self.until_arrived.record(latency);
        self.arrived += 1;
    }

    /// Something that was to be done was not.
    pub(crate) fn fail(&mut self, why: String) {
        *self.failures.entry(why).or_default() += 1;
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// What is printed, as a table in Markdown; each message is for so many.
    pub(crate) fn table(&self, receivers: u64) -> String {
        let mut text = String::from("| | messages | p50 ms | p90 ms | p99 ms | p99.9 ms | max ms |\n");
        text += "|---|--:|--:|--:|--:|--:|--:|\n";
        let all = self.sent * receivers;
        for (name, count, latencies) in [
            ("until it is safe", format!("{} of {}", self.stored, self.sent), &self.until_stored),
            ("until it is there", format!("{} of {all}", self.arrived), &self.until_arrived),
        ] {
            let at = |quantile| latencies.micros_at(quantile) / 1000.0;
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "| {name} | {count} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
                at(0.5),
                at(0.9),
                at(0.99),
                at(0.999),
                at(1.0)
            );
        }
        for (why, count) in &self.failures {
            let _ = writeln!(text, "failed: {count} with: {why}");
        }
        text
    }
}
