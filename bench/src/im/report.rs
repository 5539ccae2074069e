//! [`Report`]: how a talk went.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use crate::latencies::Latencies;

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
    /// One after the other, each [`step`](Self::step) long.
    windows: Vec<Latencies>,
    step: Duration,
    /// What was to be sent before is not counted.
    warm: Duration,
}

/// What is drawn of a part of the time, in microseconds.
pub(crate) struct Moment {
    /// When it ended.
    pub(crate) at: Duration,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
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
            windows: Vec::new(),
            step: (length / WINDOWS).max(SHORTEST),
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
        let window = ((due - self.warm).as_nanos() / self.step.as_nanos()) as usize;
        if self.windows.len() <= window {
            self.windows.resize_with(window + 1, Latencies::default);
        }
        self.windows[window].record(latency);
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

    /// How it went over time; parts in which nothing arrived are left out.
    pub(crate) fn moments(&self) -> impl Iterator<Item = Moment> {
        self.windows.iter().enumerate().filter(|(_, window)| !window.is_empty()).map(|(number, window)| Moment {
            at: self.step * (number as u32 + 1),
            p50_us: window.micros_at(0.5),
            p99_us: window.micros_at(0.99),
            max_us: window.micros_at(1.0),
        })
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

/// The time is cut into about so many parts.
const WINDOWS: u32 = 100;
const SHORTEST: Duration = Duration::from_millis(50);
