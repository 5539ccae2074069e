//! [`Report`]: the results of calls.

use std::{collections::BTreeMap, time::Instant};

use contracts::GreeterClient;
use hdrhistogram::Histogram;
use msnb::{CallError, Caller};
use serde::Serialize;

/// The results of the calls of one caller or of all callers.
pub(crate) struct Report {
    pub(crate) ok: u64,
    failed: u64,
    errors: BTreeMap<String, u64>,
    providers: BTreeMap<String, u64>,
    /// The failures of each provider.
    provider_failures: BTreeMap<String, u64>,
    /// The tag of the calls.
    tag: Option<String>,
    /// In microseconds.
    latencies: Histogram<u64>,
}

/// The printed form of a report.
#[derive(Serialize)]
struct Summary<'a> {
    calls: u64,
    ok: u64,
    failed: u64,
    errors: &'a BTreeMap<String, u64>,
    /// The answers of each provider.
    providers: &'a BTreeMap<String, u64>,
    /// The calls that failed at each provider.
    provider_failures: &'a BTreeMap<String, u64>,
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            ok: 0,
            failed: 0,
            errors: BTreeMap::new(),
            providers: BTreeMap::new(),
            provider_failures: BTreeMap::new(),
            tag: None,
            latencies: Histogram::new_with_bounds(1, MAX_LATENCY_US, 3).expect("constant bounds are in range"),
        }
    }
}

impl Report {
    /// Creates a report of calls with this tag, or without one.
    pub(crate) fn with_tag(tag: Option<String>) -> Self {
        Self { tag, ..Self::default() }
    }

    /// Makes one call, counts it and returns whether it succeeded.
    pub(crate) async fn call<C: Caller>(&mut self, greeter: &GreeterClient<C>) -> bool {
        let start = Instant::now();
        let call = greeter.hello("Bo".to_owned());
        let outcome = match &self.tag {
            Some(tag) => call.tag(tag).await,
            None => call.await,
        };
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.latencies.saturating_record(micros);
        let succeeded = outcome.is_ok();
        match outcome {
            Ok(greeting) => {
                self.ok += 1;
                // "Hello Bo, from 127.0.0.1:7788"
                let provider = greeting.rsplit(' ').next().unwrap_or_default().to_owned();
                *self.providers.entry(provider).or_default() += 1;
            }
            Err(error) => {
                self.failed += 1;
                if let CallError::Rpc(error) = &error
                    && let Some(peer) = error.peer()
                {
                    *self.provider_failures.entry(peer.to_string()).or_default() += 1;
                }
                let name = match &error {
                    CallError::Service(error) => format!("Service({error:?})"),
                    CallError::Rpc(error) => error.code().to_string(),
                };
                if !self.errors.contains_key(&name) {
                    eprintln!("first {name}: {error}");
                }
                *self.errors.entry(name).or_default() += 1;
            }
        }
        succeeded
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.ok += other.ok;
        self.failed += other.failed;
        let maps = [
            (&mut self.errors, other.errors),
            (&mut self.providers, other.providers),
            (&mut self.provider_failures, other.provider_failures),
        ];
        for (sums, counts) in maps {
            for (name, count) in counts {
                *sums.entry(name).or_default() += count;
            }
        }
        self.latencies.add(other.latencies).expect("all histograms have the same bounds");
    }

    pub(crate) fn print(&self, json: bool) {
        let summary = Summary {
            calls: self.ok + self.failed,
            ok: self.ok,
            failed: self.failed,
            errors: &self.errors,
            providers: &self.providers,
            provider_failures: &self.provider_failures,
            p50_us: self.latencies.value_at_quantile(0.50),
            p99_us: self.latencies.value_at_quantile(0.99),
            max_us: self.latencies.max(),
        };
        if json {
            println!("{}", serde_json::to_string(&summary).expect("numbers and strings serialize"));
            return;
        }
        println!("calls     {} ({} ok, {} failed)", summary.calls, summary.ok, summary.failed);
        for (name, count) in &self.errors {
            println!("failed    {count} with {name}");
        }
        for (address, count) in &self.providers {
            println!("provider  {address} answered {count}");
        }
        for (address, count) in &self.provider_failures {
            println!("provider  {address} failed {count}");
        }
        println!("latency   p50 {} us, p99 {} us, max {} us", summary.p50_us, summary.p99_us, summary.max_us);
    }
}

/// The maximum recorded latency in microseconds; longer latencies count as this value.
const MAX_LATENCY_US: u64 = 60_000_000;
