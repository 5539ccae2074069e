//! [`Report`]: the result of a load.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use super::call::Answer;
use crate::{latencies::Latencies, timeline::Timeline};

/// The result of a load, in total and over time.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) ok: u64,
    pub(crate) elapsed: Duration,
    failures: BTreeMap<String, Failures>,
    providers: BTreeMap<String, u64>,
    latencies: Latencies,
    pub(crate) timeline: Timeline,
}

/// The calls that failed with the same code.
#[derive(Debug, Clone)]
struct Failures {
    count: u64,
    first: String,
}

impl Report {
    /// Creates the report of a load of this length.
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            ok: 0,
            elapsed: length,
            failures: BTreeMap::new(),
            providers: BTreeMap::new(),
            latencies: Latencies::default(),
            timeline: Timeline::new(length),
        }
    }

    /// Records a call that ended at `at`, measured from the start of the load.
    pub(super) fn count(&mut self, at: Duration, latency: Duration, outcome: Result<Answer, rpc_core::Error>) {
        self.timeline.record(at, latency);
        self.latencies.record(latency);
        let failure = match &outcome {
            Ok(answer) => {
                let provider = answer.reply.peer.map_or_else(String::new, |peer| peer.to_string());
                *self.providers.entry(provider).or_default() += 1;
                answer.reply.is_application_error.then(|| ("an application error".to_owned(), answer.text()))
            }
            Err(error) => Some((error.code().to_string(), error.to_string())),
        };
        match failure {
            None => self.ok += 1,
            Some((kind, first)) => {
                self.failures.entry(kind).or_insert(Failures { count: 0, first }).count += 1;
            }
        }
    }

    /// Returns the number of all calls, including failed ones.
    pub(crate) fn calls(&self) -> u64 {
        self.ok + self.failures.values().map(|failures| failures.count).sum::<u64>()
    }

    /// Formats the report as text.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{name:<10}{value}");
        };
        let (calls, seconds) = (self.calls(), self.elapsed.as_secs_f64());
        line("calls", format!("{calls} in {seconds:.1} s, {:.0}/s", calls as f64 / seconds));
        line("ok", self.ok.to_string());
        for (kind, failures) in &self.failures {
            line("failed", format!("{} with {kind}, first: {}", failures.count, failures.first));
        }
        for (provider, count) in &self.providers {
            line("provider", format!("{provider} answered {count}"));
        }
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            line(name, format!("{:.1} µs", self.latencies.micros_at(quantile)));
        }
        text
    }
}
