//! [`Timeline`]: latencies over time.

use std::time::Duration;

use crate::latencies::Latencies;

/// Latencies over time, in windows of equal length.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// Consecutive windows, each [`step`](Self::step) long.
    windows: Vec<Latencies>,
    step: Duration,
}

/// The latencies of one window, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Interval {
    /// The end of the window.
    pub at: Duration,
    /// The median.
    pub p50_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
    /// The maximum.
    pub max_us: f64,
}

impl Timeline {
    /// Creates a timeline for about `length`.
    pub fn new(length: Duration) -> Self {
        Self { windows: Vec::new(), step: (length / WINDOWS).max(MIN_STEP) }
    }

    /// Records a latency that was measured at `at`.
    pub fn record(&mut self, at: Duration, latency: Duration) {
        let window = (at.as_nanos() / self.step.as_nanos()) as usize;
        if self.windows.len() <= window {
            self.windows.resize_with(window + 1, Latencies::default);
        }
        self.windows[window].record(latency);
    }

    /// Returns the windows that have records.
    pub fn intervals(&self) -> impl Iterator<Item = Interval> {
        self.windows.iter().enumerate().filter(|(_, window)| !window.is_empty()).map(|(number, window)| Interval {
            at: self.step * (number as u32 + 1),
            p50_us: window.micros_at(0.5),
            p99_us: window.micros_at(0.99),
            max_us: window.micros_at(1.0),
        })
    }
}

/// The number of windows, unless they would be shorter than [`MIN_STEP`].
const WINDOWS: u32 = 100;
const MIN_STEP: Duration = Duration::from_millis(50);
