//! [`Report`]: the result of a conversation.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use loadgen::{Latencies, Timeline};

/// The result of a conversation, in total and over time.
pub(crate) struct Report {
    pub(crate) sent: u64,
    pub(crate) stored: u64,
    pub(crate) arrived: u64,
    /// The number of lag notifications that sessions received.
    pub(crate) lagged: u64,
    confirmation: Latencies,
    delivery: Latencies,
    failures: BTreeMap<String, u64>,
    /// The latencies of received messages, by their scheduled time.
    pub(crate) timeline: Timeline,
    /// Messages that are scheduled before the end of the warm-up do not count.
    warm_up: Duration,
}

impl Report {
    /// Creates the report of a conversation of `length`, after `warm_up`.
    pub(crate) fn new(warm_up: Duration, length: Duration) -> Self {
        Self {
            sent: 0,
            stored: 0,
            arrived: 0,
            lagged: 0,
            confirmation: Latencies::default(),
            delivery: Latencies::default(),
            failures: BTreeMap::new(),
            timeline: Timeline::new(length),
            warm_up,
        }
    }

    /// Returns whether a message that is scheduled at `due` counts.
    pub(crate) fn counts(&self, due: Duration) -> bool {
        due >= self.warm_up
    }

    /// Records that the sender received the confirmation of a message.
    pub(crate) fn stored(&mut self, now: Duration, due: Duration) {
        if self.counts(due) {
            self.stored += 1;
            self.confirmation.record(now.saturating_sub(due));
        }
    }

    /// Records that a recipient received a message.
    pub(crate) fn arrived(&mut self, now: Duration, due: Duration) {
        if !self.counts(due) {
            return;
        }
        let latency = now.saturating_sub(due);
        self.timeline.record(due - self.warm_up, latency);
        self.delivery.record(latency);
        self.arrived += 1;
    }

    /// Records a failure.
    pub(crate) fn fail(&mut self, reason: String) {
        *self.failures.entry(reason).or_default() += 1;
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Formats the report as a table in Markdown; each message has `receivers` recipients.
    pub(crate) fn table(&self, receivers: u64) -> String {
        let mut text = String::from("| | messages | p50 ms | p90 ms | p99 ms | p99.9 ms | max ms |\n");
        text += "|---|--:|--:|--:|--:|--:|--:|\n";
        let all = self.sent * receivers;
        for (name, count, latencies) in [
            ("until confirmed", format!("{} of {}", self.stored, self.sent), &self.confirmation),
            ("until received", format!("{} of {all}", self.arrived), &self.delivery),
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
        for (reason, count) in &self.failures {
            let _ = writeln!(text, "failed: {count} with: {reason}");
        }
        text
    }
}
