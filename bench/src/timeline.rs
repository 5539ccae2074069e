//! [`Timeline`]: how latencies were over time.

use std::time::Duration;

use crate::latencies::Latencies;

/// Latencies over time, in parts of equal length.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    /// One after the other, each [`step`](Self::step) long.
    windows: Vec<Latencies>,
    step: Duration,
}

/// What is drawn of a part of the time, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// When it ended.
    pub(crate) at: Duration,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

impl Timeline {
    /// For so much time.
    pub(crate) fn new(length: Duration) -> Self {
        Self { windows: Vec::new(), step: (length / WINDOWS).max(SHORTEST) }
    }

    /// Counts a latency that was found at `at`.
    pub(crate) fn record(&mut self, at: Duration, latency: Duration) {
        let window = (at.as_nanos() / self.step.as_nanos()) as usize;
        if self.windows.len() <= window {
            self.windows.resize_with(window + 1, Latencies::default);
        }
        self.windows[window].record(latency);
    }

    /// How it went over time; parts in which nothing was counted are left out.
    pub(crate) fn moments(&self) -> impl Iterator<Item = Moment> {
        self.windows.iter().enumerate().filter(|(_, window)| !window.is_empty()).map(|(number, window)| Moment {
            at: self.step * (number as u32 + 1),
            p50_us: window.micros_at(0.5),
            p99_us: window.micros_at(0.99),
            max_us: window.micros_at(1.0),
        })
    }
}

/// The time is cut into about so many parts.
const WINDOWS: u32 = 100;
const SHORTEST: Duration = Duration::from_millis(50);
