//! [`Figures`]: what one program did in one job.

use crate::summary::Summary;

/// What one program did in one job. What was not measured is not a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// Calls a second.
    pub(crate) rate: f64,
    pub(crate) errors: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// Processor time of each call, in microseconds.
    pub(crate) server_us: f64,
    pub(crate) client_us: f64,
    /// Memory of each connection, in bytes.
    pub(crate) server_bytes: f64,
    pub(crate) client_bytes: f64,
}

impl Figures {
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

    /// Those of a job with calls.
    pub(crate) fn of_work(summary: &Summary) -> Self {
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

    /// Those of connections that are held.
    pub(crate) fn of_idleness(server_bytes: f64, client_bytes: f64) -> Self {
        Self { server_bytes, client_bytes, ..Self::NONE }
    }
}

/// The median of each figure; of errors, the most.
pub(crate) fn median(rounds: &[Figures]) -> Figures {
    let of = |figure: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values.get((values.len().saturating_sub(1)) / 2), values.get(values.len() / 2));
        low.zip(high).map_or(f64::NAN, |(low, high)| (low + high) / 2.0)
    };
    Figures {
        rate: of(|figures| figures.rate),
        errors: rounds.iter().map(|figures| figures.errors).fold(0.0, f64::max),
        p50_us: of(|figures| figures.p50_us),
        p99_us: of(|figures| figures.p99_us),
        p999_us: of(|figures| figures.p999_us),
        server_us: of(|figures| figures.server_us),
        client_us: of(|figures| figures.client_us),
        server_bytes: of(|figures| figures.server_bytes),
        client_bytes: of(|figures| figures.client_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        let rounds = |rates: &[f64]| {
            let rounds: Vec<_> = rates.iter().map(|rate| Figures { rate: *rate, ..Figures::NONE }).collect();
            median(&rounds).rate
        };
        assert_eq!(rounds(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(rounds(&[9.0, 1.0, 2.0, 4.0]), 3.0);
        assert!(rounds(&[]).is_nan());
    }
}
