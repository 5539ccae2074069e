//! [`Measurement`]: the results of one peer with one workload.

use crate::summary::Summary;

/// The results of one peer with one workload. Values that were not measured are NaN.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measurement {
    /// Calls per second.
    pub(crate) rate: f64,
    pub(crate) errors: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// Processor time per call, in microseconds.
    pub(crate) server_us: f64,
    pub(crate) client_us: f64,
    /// Memory per connection, in bytes.
    pub(crate) server_bytes: f64,
    pub(crate) client_bytes: f64,
}

impl Measurement {
    const NONE: Self = Self {
        rate: f64::NAN,
        errors: f64::NAN,
        p50_us: f64::NAN,
        p99_us: f64::NAN,
        p999_us: f64::NAN,
        server_us: f64::NAN,
        client_us: f64::NAN,
        server_bytes: f64::NAN,
        client_bytes: f64::NAN,
    };

    /// Creates the measurement of a workload with calls.
    pub(crate) fn of_calls(summary: &Summary) -> Self {
        let Summary { calls, errors, secs, p50_us, p99_us, p999_us, cpu_s, server_cpu_s } = *summary;
        let each = |seconds: f64| seconds * 1e6 / calls as f64;
        Self {
            rate: calls as f64 / secs,
            errors: errors as f64,
            p50_us,
            p99_us,
            p999_us,
            server_us: server_cpu_s.map_or(f64::NAN, each),
            client_us: each(cpu_s),
            ..Self::NONE
        }
    }

    /// Creates the measurement of idle connections.
    pub(crate) fn of_idle(server_bytes: f64, client_bytes: f64) -> Self {
        Self { server_bytes, client_bytes, ..Self::NONE }
    }
}

/// Returns the median of each value, and the maximum of the errors.
pub(crate) fn median(rounds: &[Measurement]) -> Measurement {
    let of = |value: fn(&Measurement) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values.get((values.len().saturating_sub(1)) / 2), values.get(values.len() / 2));
        low.zip(high).map_or(f64::NAN, |(low, high)| (low + high) / 2.0)
    };
    Measurement {
        rate: of(|measurement| measurement.rate),
        errors: rounds.iter().map(|measurement| measurement.errors).fold(0.0, f64::max),
        p50_us: of(|measurement| measurement.p50_us),
        p99_us: of(|measurement| measurement.p99_us),
        p999_us: of(|measurement| measurement.p999_us),
        server_us: of(|measurement| measurement.server_us),
        client_us: of(|measurement| measurement.client_us),
        server_bytes: of(|measurement| measurement.server_bytes),
        client_bytes: of(|measurement| measurement.client_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_value() {
        let rounds = |rates: &[f64]| {
            let rounds: Vec<_> = rates.iter().map(|rate| Measurement { rate: *rate, ..Measurement::NONE }).collect();
            median(&rounds).rate
        };
        assert_eq!(rounds(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(rounds(&[9.0, 1.0, 2.0, 4.0]), 3.0);
        assert!(rounds(&[]).is_nan());
    }
}
