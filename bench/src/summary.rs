//! [`Summary`]: the one line that a client prints.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{process::Costs, tally::Tally};

/// The one line that a client prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// Calls with the right reply, in the measured time.
    pub(crate) calls: u64,
    /// Others.
    pub(crate) errors: u64,
    /// The measured time.
    pub(crate) secs: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// Processor time of this process, user and system, in the measured time.
    pub(crate) cpu_s: f64,
    /// The same of the server, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_cpu_s: Option<f64>,
}

impl Summary {
    /// Sums up; what the first error was goes to stderr.
    pub(crate) fn new(tally: &Tally, measured: Duration, costs: Costs) -> Self {
        if let Some(error) = &tally.first_error {
            eprintln!("msnb-bench: the first error: {error}");
        }
        Self {
            calls: tally.calls,
            errors: tally.errors,
            secs: measured.as_secs_f64(),
            p50_us: tally.latencies.micros_at(0.5),
            p99_us: tally.latencies.micros_at(0.99),
            p999_us: tally.latencies.micros_at(0.999),
            cpu_s: costs.client.as_secs_f64(),
            server_cpu_s: costs.server.map(|cost| cost.as_secs_f64()),
        }
    }
}
