//! [`Summary`]: the line of JSON that a client prints.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{process::CpuTimes, stats::CallStats};

/// The line of JSON that a client prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// The number of calls with a correct reply in the measured time.
    pub(crate) calls: u64,
    /// The number of other calls.
    pub(crate) errors: u64,
    /// The measured time in seconds.
    pub(crate) secs: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// User and system time of this process in the measured time, in seconds.
    pub(crate) cpu_s: f64,
    /// The same for the server, if it is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_cpu_s: Option<f64>,
}

impl Summary {
    /// Creates a summary and prints the first error to stderr.
    pub(crate) fn new(stats: &CallStats, measured: Duration, cpu: CpuTimes) -> Self {
        if let Some(error) = &stats.first_error {
            eprintln!("msnb-bench: first error: {error}");
        }
        Self {
            calls: stats.calls,
            errors: stats.errors,
            secs: measured.as_secs_f64(),
            p50_us: stats.latencies.micros_at(0.5),
            p99_us: stats.latencies.micros_at(0.99),
            p999_us: stats.latencies.micros_at(0.999),
            cpu_s: cpu.client.as_secs_f64(),
            server_cpu_s: cpu.server.map(|cost| cost.as_secs_f64()),
        }
    }
}
