//! [`Record`]: one call of a run; and [`load`], which makes the calls.

use std::{net::SocketAddr, ops::Range, time::Duration};

use loadgen::Latencies;
use rpc_client::Client;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::provider::RouteClient;

/// One call.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// The scheduled start, from the start of the run.
    pub(super) at: Duration,
    /// The time from the scheduled start.
    pub(super) latency: Duration,
    pub(super) has_failed: bool,
    is_heavy: bool,
    /// The providers of its attempts.
    pub(super) attempts: Vec<SocketAddr>,
}

/// The result of a run.
pub(super) struct Run {
    pub(super) name: String,
    pub(super) records: Vec<Record>,
    /// The providers in the order of their starts.
    pub(super) providers: Vec<SocketAddr>,
}

/// Makes calls at a constant rate. Every `heavy`th call takes ten times longer.
pub(super) async fn load(client: RouteClient<Client>, rate: u32, length: Duration, heavy: Option<u64>) -> Vec<Record> {
    let (start, step) = (Instant::now(), Duration::from_secs(1) / rate);
    let mut calls = JoinSet::new();
    for number in 0.. {
        let at = step * number;
        if at >= length {
            break;
        }
        sleep_until(start + at).await;
        let is_heavy = heavy.is_some_and(|heavy| u64::from(number) % heavy == 0);
        let call = client.work(is_heavy).timeout(TIMEOUT).explain();
        calls.spawn(async move {
            let (outcome, explanation) = call.await;
            let latency = (start + at).elapsed();
            let attempts = explanation.attempts.iter().map(|attempt| attempt.address).collect();
            Record { at, latency, has_failed: outcome.is_err(), is_heavy, attempts }
        });
    }
    calls.join_all().await
}

/// The calls of one phase.
pub(super) struct Summary<'a> {
    phase: &'static str,
    records: Vec<&'a Record>,
    latencies: Latencies,
}

impl<'a> Summary<'a> {
    pub(super) const HEADER: &'static str = "| run | phase | calls | failed | reached the first provider | p50 | p99 | max |\n\
                                             |---|---|--:|--:|--:|--:|--:|--:|\n";

    pub(super) fn of(records: &'a [Record], phase: &'static str, times: Range<Duration>) -> Self {
        let records: Vec<_> = records.iter().filter(|record| times.contains(&record.at)).collect();
        let mut latencies = Latencies::default();
        // Heavy calls would hide the latencies of the others.
        let light = records.iter().filter(|record| !record.has_failed && !record.is_heavy);
        light.for_each(|record| latencies.record(record.latency));
        Self { phase, records, latencies }
    }

    /// Returns a row of a table.
    pub(super) fn row(&self, run: &str, first: Option<SocketAddr>) -> String {
        let count = self.records.len().max(1) as f64;
        let failed = self.records.iter().filter(|record| record.has_failed).count();
        let reached = self.records.iter().filter(|record| record.attempts.iter().any(|at| Some(*at) == first)).count();
        let millis = |quantile| format!("{:.1} ms", self.latencies.micros_at(quantile) / 1000.0);
        format!(
            "| {run} | {} | {} | {failed} | {reached} ({:.1} %) | {} | {} | {} |\n",
            self.phase,
            self.records.len(),
            reached as f64 / count * 100.0,
            millis(0.5),
            millis(0.99),
            millis(1.0)
        )
    }
}

/// Returns a sentence about the first call that succeeds after `back_at`.
pub(super) fn first_success(records: &[Record], back_at: Duration, run: &str) -> String {
    let mut later: Vec<_> = records.iter().filter(|record| record.at >= back_at).collect();
    later.sort_by_key(|record| record.at);
    let Some(success) = later.iter().find(|record| !record.has_failed) else {
        return format!("{run}: no call succeeded after the outage\n");
    };
    let failed = later.iter().take_while(|record| record.has_failed).count();
    format!(
        "| {run} | first success | | {failed} before | {:.0} ms after the start of the first provider began | | {:.1} ms | |\n",
        (success.at - back_at).as_secs_f64() * 1000.0,
        success.latency.as_secs_f64() * 1000.0
    )
}

const TIMEOUT: Duration = Duration::from_secs(1);
