//! [`History`]: the latencies of the last calls of each method, and their chart.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// The latencies of the last calls of each method, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<HashMap<String, VecDeque<f64>>>);

/// The points of a chart that is 640 wide and 160 high.
pub(super) struct Chart {
    pub(super) points: String,
    pub(super) highest: String,
    pub(super) label: String,
}

impl History {
    pub(super) fn record(&self, route: &str, latency: Duration) {
        let mut routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if routes.len() >= MAX_ROUTES && !routes.contains_key(route) {
            routes.clear();
        }
        let calls = routes.entry(route.to_owned()).or_default();
        if calls.len() == MAX_CALLS {
            calls.pop_front();
        }
        calls.push_back(latency.as_secs_f64() * 1e3);
    }

    /// Returns the chart of a method; `None` before its second call.
    pub(super) fn chart(&self, route: &str) -> Option<Chart> {
        let routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = routes.get(route).filter(|calls| calls.len() > 1)?;
        let highest = calls.iter().copied().fold(0.001, f64::max);
        let step = 640.0 / (calls.len() - 1) as f64;
        let points: Vec<_> = calls
            .iter()
            .enumerate()
            .map(|(number, ms)| format!("{:.1},{:.1}", number as f64 * step, 150.0 - ms / highest * 130.0))
            .collect();
        let label = format!("The latencies of {} calls, of which the highest is {highest:.1} ms", calls.len());
        Some(Chart { points: points.join(" "), highest: format!("{highest:.1} ms"), label })
    }
}

/// The largest number of calls of a method that the chart shows.
const MAX_CALLS: usize = 100;
/// The largest number of methods with a chart.
const MAX_ROUTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chart_has_the_last_calls() {
        let history = History::default();
        history.record("a/b", Duration::from_millis(500));
        assert!(history.chart("a/b").is_none());
        for ms in (1..=MAX_CALLS as u64).rev() {
            history.record("a/b", Duration::from_millis(ms));
        }
        let chart = history.chart("a/b").unwrap();
        assert_eq!((chart.points.split(' ').count(), &*chart.highest), (MAX_CALLS, "100.0 ms"));
        assert!(chart.points.starts_with("0.0,20.0 ") && chart.points.ends_with(" 640.0,148.7"), "{}", chart.points);
        for number in 0..MAX_ROUTES {
            history.record(&number.to_string(), Duration::from_millis(1));
        }
        assert!(history.chart("a/b").is_none());
    }
}
