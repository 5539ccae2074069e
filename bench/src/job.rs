//! [`Job`]: the parameters of a measurement.

use std::{num::NonZeroUsize, time::Duration};

use tokio::time::Instant;

/// The parameters of a measurement: concurrency, connections, payload and duration.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Job {
    /// The number of connections.
    #[arg(long, value_name = "C", default_value = "1")]
    pub(crate) conns: NonZeroUsize,
    /// The number of calls in flight, split evenly over the connections.
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) inflight: NonZeroUsize,
    /// The payload of each call, in bytes.
    #[arg(long, value_name = "B", default_value_t = 32)]
    pub(crate) payload: usize,
    /// The measured time in seconds, after one second of warm-up.
    #[arg(long, value_name = "S", default_value = "5", value_parser = positive_seconds)]
    pub(crate) seconds: Duration,
    /// The number of additional tasks that call over the same connections with payloads of 1 MiB; their calls are not
    /// counted.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) bulk: usize,
    /// The rate of an open loop, in calls per second. Calls start on schedule while fewer than N are in flight, and
    /// latencies count from the scheduled start. Without this option, each call starts when the previous one ends.
    #[arg(long, value_name = "R")]
    pub(crate) rate: Option<NonZeroUsize>,
}

/// The measured time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
}

impl Job {
    /// Returns the measured time of a job that starts now.
    pub(crate) fn window(&self) -> Window {
        let begin = Instant::now() + WARM_UP;
        Window { begin, end: begin + self.seconds }
    }

    /// Returns the number of calls in flight for each connection.
    pub(crate) fn shares(&self) -> impl Iterator<Item = usize> {
        let (conns, inflight) = (self.conns.get(), self.inflight.get());
        (0..conns).map(move |conn| inflight / conns + usize::from(conn < inflight % conns))
    }
}

impl Window {
    /// Returns whether a call that ended at `at` counts.
    pub(crate) fn contains(&self, at: Instant) -> bool {
        self.begin <= at && at < self.end
    }

    /// Returns the length of the window.
    pub(crate) fn length(&self) -> Duration {
        self.end - self.begin
    }
}

/// Parses a number of seconds, such as `2` or `0.5`.
pub(crate) fn positive_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() && seconds <= MAX_SECONDS => Ok(duration),
        _ => Err("expected more than 0 and at most 86400 seconds".to_owned()),
    }
}

/// The payload of an uncounted call, in bytes.
pub(crate) const BULK: usize = 1 << 20;
const WARM_UP: Duration = Duration::from_secs(1);
const MAX_SECONDS: f64 = 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_split_calls_evenly_over_connections() {
        let shares = |conns, inflight| {
            let [conns, inflight] = [conns, inflight].map(|number| NonZeroUsize::new(number).unwrap());
            let job = Job { conns, inflight, payload: 0, seconds: Duration::from_secs(1), bulk: 0, rate: None };
            job.shares().collect::<Vec<_>>()
        };
        assert_eq!(shares(4, 64), [16; 4]);
        assert_eq!(shares(3, 5), [2, 2, 1]);
        assert_eq!(shares(3, 1), [1, 0, 0]);
    }

    #[test]
    fn positive_seconds_rejects_zero() {
        assert_eq!(positive_seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["", "0", "-1", "NaN", "inf", "1e9", "two"] {
            assert!(positive_seconds(bad).is_err(), "{bad}");
        }
    }
}
