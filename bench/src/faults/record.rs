//! [`Record`]: one call of a run; [`load`], which makes the calls; and [`row`], which summarizes them.

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    caller::Caller,
    fault::Fault,
    peers::FaultPeer,
    phases::{BEGIN, END, LENGTH},
};

/// One call.
pub(super) struct Record {
    /// The scheduled start, from the start of the run.
    at: Duration,
    /// The time from the scheduled start.
    latency: Duration,
    /// The port of the provider that answered, or the error.
    outcome: Result<u16, String>,
}

/// Makes calls at a constant rate.
pub(super) async fn load(caller: Caller, rate: u32, length: Duration) -> Vec<Record> {
    let (start, step) = (Instant::now(), Duration::from_secs(1) / rate);
    let mut calls = JoinSet::new();
    for number in 0.. {
        let at = step * number;
        if at >= length {
            break;
        }
        sleep_until(start + at).await;
        let call = caller(number.into());
        calls.spawn(async move {
            let outcome = match tokio::time::timeout(PATIENCE, call).await {
                Ok(outcome) => outcome.map_err(|error| error.to_string()),
                Err(_) => Err("no outcome 2 s after the deadline".to_owned()),
            };
            Record { at, latency: (start + at).elapsed(), outcome }
        });
    }
    calls.join_all().await
}

/// The time after which a call counts as failed although its framework has not ended it.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) const HEADER: &str = "\
| fault | framework | calls | failed | slower than 100 ms | p99 during the fault | the provider answers again | first error |
|---|---|---|---|---|---|---|---|
";

/// Returns the row of a run. `port` is that of the provider with the fault.
pub(super) fn row(fault: Fault, peer: FaultPeer, records: &[Record], port: u16) -> String {
    let failed: Vec<_> = records.iter().filter_map(|record| record.outcome.as_ref().err()).collect();
    let slow = records.iter().filter(|record| record.outcome.is_ok() && record.latency > SLOW).count();
    let during = records.iter().filter(|record| (BEGIN..END).contains(&record.at));
    let mut latencies: Vec<_> = during.map(|record| record.latency).collect();
    latencies.sort_unstable();
    let p99 = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default();
    let last = records.iter().filter(|record| record.at >= LENGTH - Duration::from_secs(1));
    let answers = last.filter_map(|record| record.outcome.as_ref().ok());
    let shares = answers.fold(BTreeMap::<u16, u32>::new(), |mut shares, port| {
        *shares.entry(*port).or_default() += 1;
        shares
    });
    let returned = if shares.contains_key(&port) { "yes" } else { "no" };
    let error =
        failed.first().map_or(String::new(), |error| error.replace(['|', '\n'], " ").chars().take(80).collect());
    format!(
        "| {fault:?} | {peer:?} | {} | {} | {slow} | {:.0} ms | {returned} | {error} |\n",
        records.len(),
        failed.len(),
        p99.as_secs_f64() * 1e3
    )
}

const SLOW: Duration = Duration::from_millis(100);
