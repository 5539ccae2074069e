//! [`Report`]: the result of a load.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use loadgen::{Latencies, Timeline};
use rpc_core::Error;
use serde_json::{Value, json};

use super::call::Ended;

/// The result of a load, in total and over time.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) ok: u64,
    /// Calls whose streams were open at the end of the time.
    open: u64,
    /// Items that the calls have sent.
    pub(super) sent: u64,
    /// Items that the calls have received.
    pub(super) received: u64,
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
            open: 0,
            sent: 0,
            received: 0,
            elapsed: length,
            failures: BTreeMap::new(),
            providers: BTreeMap::new(),
            latencies: Latencies::default(),
            timeline: Timeline::new(length),
        }
    }

    /// Records a call that ended at `at`, measured from the start of the load.
    pub(super) fn count(&mut self, at: Duration, latency: Duration, outcome: Result<Ended, Error>) {
        let is_open = outcome.as_ref().is_ok_and(|ended| ended.is_open);
        if !is_open {
            self.timeline.record(at, latency);
            self.latencies.record(latency);
        }
        let failure = match outcome {
            Ok(ended) => {
                let provider = ended.peer.map_or_else(String::new, |peer| peer.to_string());
                *self.providers.entry(provider).or_default() += 1;
                ended.error.map(|error| ("the service's own error".to_owned(), error))
            }
            Err(error) => Some((error.code().to_string(), error.to_string())),
        };
        match failure {
            None if is_open => self.open += 1,
            None => self.ok += 1,
            Some((kind, first)) => {
                self.failures.entry(kind).or_insert(Failures { count: 0, first }).count += 1;
            }
        }
    }

    /// Returns the number of all calls, including failed ones and those with open streams.
    pub(crate) fn calls(&self) -> u64 {
        self.ok + self.open + self.failed()
    }

    /// Returns the number of failed calls.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().map(|failures| failures.count).sum()
    }

    /// Returns the report as lines of text.
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
        if self.open > 0 {
            line("open", format!("{} streams at the end of the time", self.open));
        }
        for (count, direction) in [(self.sent, "sent"), (self.received, "received")] {
            if count > 0 {
                line("items", format!("{count} {direction}, {:.0}/s", count as f64 / seconds));
            }
        }
        for (provider, count) in &self.providers {
            line("provider", format!("{provider} answered {count}"));
        }
        for (name, micros) in self.quantiles() {
            if let Some(micros) = micros {
                line(name, format!("{micros:.1} µs"));
            }
        }
        text + &self.histogram()
    }

    /// Returns the quantiles of the latencies in microseconds; `None` without a call that has ended.
    fn quantiles(&self) -> [(&'static str, Option<f64>); 5] {
        QUANTILES
            .map(|(name, quantile)| (name, (!self.latencies.is_empty()).then(|| self.latencies.micros_at(quantile))))
    }

    /// Returns the latencies as bars of characters.
    fn histogram(&self) -> String {
        let buckets = self.latencies.buckets();
        let most = buckets.iter().map(|(_, calls)| *calls).max().unwrap_or_default().max(1);
        let mut text = String::new();
        for (up_to, calls) in buckets {
            let bar = "#".repeat(((calls * BAR).div_ceil(most)) as usize);
            let limit = format!("<= {up_to} µs");
            text += format!("{limit:<14}{calls:>10}  {bar}").trim_end();
            text.push('\n');
        }
        text
    }

    /// Returns the report as JSON.
    pub(crate) fn document(&self) -> Value {
        let seconds = self.elapsed.as_secs_f64();
        let failures: Vec<_> = self
            .failures
            .iter()
            .map(|(kind, failures)| json!({ "kind": kind, "calls": failures.count, "first": failures.first }))
            .collect();
        let quantiles = self.quantiles().map(|(name, micros)| (name.to_owned(), json!(micros)));
        let histogram =
            self.latencies.buckets().into_iter().map(|(up_to, calls)| json!({ "up_to_us": up_to, "calls": calls }));
        json!({
            "calls": self.calls(),
            "ok": self.ok,
            "failed": self.failed(),
            "open": self.open,
            "items": { "sent": self.sent, "received": self.received },
            "seconds": seconds,
            "calls_per_second": self.calls() as f64 / seconds,
            "failures": failures,
            "providers": self.providers,
            "latency_us": Value::Object(quantiles.into_iter().collect()),
            "histogram": histogram.collect::<Vec<_>>(),
        })
    }
}

const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// The length of the longest bar of the histogram, in characters.
const BAR: u64 = 50;

#[cfg(test)]
mod tests {
    use rpc_core::Code;

    use super::*;

    #[test]
    fn failed_calls_are_counted_by_code() {
        let mut report = Report::new(Duration::from_secs(1));
        for ms in [1, 2, 300] {
            let error = Error::not_executed(Code::Unavailable, format!("no provider after {ms}"));
            report.count(Duration::from_millis(ms), Duration::from_millis(ms), Err(error));
        }
        assert_eq!((report.calls(), report.ok, report.failed()), (3, 0, 3));
        let table = report.table();
        assert!(table.contains("3 with Unavailable, first: Unavailable: no provider after 1"), "{table}");
        let document = report.document();
        assert_eq!(document["failures"][0]["calls"], json!(3));
        assert_eq!(document["histogram"][0], json!({ "up_to_us": 2000, "calls": 1 }));
    }
}
