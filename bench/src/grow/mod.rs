//! `msnb-bench grow`: the rate and cost of calls along one dimension.

mod axis;
mod chart;
mod fleet;

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::ValueEnum;

pub(crate) use self::fleet::{FleetClient, FleetServer};
use self::{
    axis::{Axis, Point},
    chart::Curve,
};
use crate::{
    compare::{child, measurement, measurement::Measurement},
    failure::Failure,
    job::positive_seconds,
};

/// The options of `msnb-bench grow`.
#[derive(Debug, clap::Args)]
pub(crate) struct Grow {
    /// The dimensions; all by default.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "NAME")]
    axes: Vec<Axis>,
    /// The largest value; larger ones are skipped.
    #[arg(long, value_name = "N")]
    up_to: Option<usize>,
    /// The number of rounds; the medians are printed.
    #[arg(long, value_name = "N", default_value = "3")]
    rounds: NonZeroUsize,
    /// The measured time of each run in seconds, after one second of warm-up.
    #[arg(long, value_name = "S", default_value = "1", value_parser = positive_seconds)]
    seconds: Duration,
    /// The SVG file for a chart of the curves.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Grow {
    /// Runs the measurements and prints a table for each axis.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let axes = if self.axes.is_empty() { Axis::value_variants() } else { &self.axes };
        let most = self.up_to.unwrap_or(usize::MAX);
        let values = |axis: Axis| axis.values().iter().copied().filter(move |value| *value <= most);
        let points: usize = axes.iter().map(|axis| values(*axis).count()).sum();
        let progress = child::progress(points * self.rounds.get());
        let mut curves = Vec::new();
        for axis in axes {
            let mut rounds = vec![Vec::new(); values(*axis).count()];
            for _ in 0..self.rounds.get() {
                for (value, done) in values(*axis).zip(&mut rounds) {
                    progress.set_message(format!("{} {value}", axis.title()));
                    done.push(measure(&axis.point(value), self.seconds)?);
                    progress.inc(1);
                }
            }
            let medians = values(*axis).zip(rounds.iter().map(|done| measurement::median(done))).collect();
            curves.push(Curve { axis: *axis, points: medians });
        }
        progress.finish_and_clear();
        curves.iter().for_each(|curve| print!("{}", curve.table()));
        if let Some(path) = &self.svg {
            std::fs::write(path, chart::draw(&curves))
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        Ok(())
    }
}

/// Measures one point once, with server and client in child processes.
fn measure(point: &Point, seconds: Duration) -> Result<Measurement, Failure> {
    let Point { conns, inflight, payload, services, methods, providers } = point;
    let fleet = [format!("--services={services}"), format!("--methods={methods}")];
    let server = child::Server::launch("fleet-server", &[&fleet[..], &[format!("--providers={providers}")]].concat())?;
    let job = [
        format!("--conns={conns}"),
        format!("--inflight={inflight}"),
        format!("--payload={payload}"),
        format!("--seconds={}", seconds.as_secs_f64()),
    ];
    Ok(Measurement::of_calls(&server.run_client("fleet-client", &[&fleet[..], &job].concat())?))
}
