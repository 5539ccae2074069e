//! [`Job`]: how many calls at once, over how many connections, of what size, for how long.

use std::{num::NonZeroUsize, time::Duration};

use tokio::time::Instant;

/// How many calls at once, over how many connections, of what size, for how long.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Job {
    /// How many connections to make.
    #[arg(long, value_name = "C", default_value = "1")]
    pub(crate) conns: NonZeroUsize,
    /// How many calls to keep in flight, split evenly over the connections.
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) inflight: NonZeroUsize,
    /// How long each call's payload is, in bytes.
    #[arg(long, value_name = "B", default_value_t = 32)]
    pub(crate) payload: usize,
    /// How long to measure, after one second of warm-up.
    #[arg(long, value_name = "S", default_value = "5", value_parser = positive_seconds)]
    pub(crate) seconds: Duration,
    /// How many tasks besides call over the same connections all the time, with payloads of 1 MiB; they are not counted.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) bulk: usize,
    /// Calls a second to begin, whether or not earlier ones have ended, as long as fewer than N are in flight; latencies then
    /// count from when a call was to begin. Without it, each call begins when the one before it ends.
    #[arg(long, value_name = "R")]
    pub(crate) rate: Option<NonZeroUsize>,
}

/// When the measured time begins and ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
}

impl Job {
    /// The measured time of a job that starts now.
    pub(crate) fn window(&self) -> Window {
        let begin = Instant::now() + WARM_UP;
        Window { begin, end: begin + self.seconds }
    }

    /// How many of the calls in flight belong to each connection.
    pub(crate) fn shares(&self) -> impl Iterator<Item = usize> {
        let (conns, inflight) = (self.conns.get(), self.inflight.get());
        (0..conns).map(move |conn| inflight / conns + usize::from(conn < inflight % conns))
    }
}

impl Window {
    /// Whether what ended at `at` is counted.
    pub(crate) fn contains(&self, at: Instant) -> bool {
        self.begin <= at && at < self.end
    }

    /// Its length.
    pub(crate) fn length(&self) -> Duration {
        self.end - self.begin
    }
}

/// Reads a number of seconds, `2` or `0.5`.
pub(crate) fn positive_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() && seconds <= A_DAY => Ok(duration),
        _ => Err("expected more than 0 and at most 86400 seconds".to_owned()),
    }
}

/// The payload of a call that is not counted.
pub(crate) const BULK: usize = 1 << 20;
const WARM_UP: Duration = Duration::from_secs(1);
const A_DAY: f64 = 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_split_evenly_over_the_connections() {
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
    fn seconds_may_be_broken_but_not_nought() {
        assert_eq!(positive_seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["", "0", "-1", "NaN", "inf", "1e9", "two"] {
            assert!(positive_seconds(bad).is_err(), "{bad}");
        }
    }
}
