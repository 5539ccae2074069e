//! `msnb-bench grow`: how calls a second and their cost change as one number grows.

mod axis;
mod chart;
mod crowd;

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::ValueEnum;

pub(crate) use self::crowd::{CrowdClient, CrowdServer};
use self::{
    axis::{Axis, Point},
    chart::Curve,
};
use crate::{
    Failure,
    compare::{child, figures, figures::Figures},
    job::positive_seconds,
};

/// What is to grow.
#[derive(Debug, clap::Args)]
pub(crate) struct Grow {
    /// What grows; all by default.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "NAME")]
    axes: Vec<Axis>,
    /// Leaves out what is larger.
    #[arg(long, value_name = "N")]
    up_to: Option<usize>,
    /// How often each point is measured; medians are printed.
    #[arg(long, value_name = "N", default_value = "3")]
    rounds: NonZeroUsize,
    /// How long to measure each time, after one second of warm-up.
    #[arg(long, value_name = "S", default_value = "1", value_parser = positive_seconds)]
    seconds: Duration,
    /// Where to draw the curves, besides printing their points.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Grow {
    /// Measures, and prints a table for each axis.
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
            let medians = values(*axis).zip(rounds.iter().map(|done| figures::median(done))).collect();
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

/// One point, once, by a server and a client in processes of their own.
fn measure(point: &Point, seconds: Duration) -> Result<Figures, Failure> {
    let Point { conns, inflight, payload, services, methods, providers } = point;
    let crowd = [format!("--services={services}"), format!("--methods={methods}")];
    let server = child::Server::launch("crowd-server", &[&crowd[..], &[format!("--providers={providers}")]].concat())?;
    let job = [
        format!("--conns={conns}"),
        format!("--inflight={inflight}"),
        format!("--payload={payload}"),
        format!("--seconds={}", seconds.as_secs_f64()),
    ];
    Ok(Figures::of_work(&server.ask("crowd-client", &[&crowd[..], &job].concat())?))
}
