//! `msnb-bench compare`: the same jobs, one program after the other, round after round.

pub(crate) mod child;
pub(crate) mod figures;
mod picture;
mod shape;
mod table;

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::ValueEnum;
use indicatif::ProgressBar;

use self::{child::Server, figures::Figures, shape::Shape};
use crate::{Failure, idle::Footprint, job::positive_seconds, peers::Peer};

/// What to compare.
#[derive(Debug, clap::Args)]
pub(crate) struct Compare {
    /// How often each program does each job; medians are printed.
    #[arg(long, value_name = "N", default_value = "5")]
    rounds: NonZeroUsize,
    /// How long to measure each time, after one second of warm-up.
    #[arg(long, value_name = "S", default_value = "2", value_parser = positive_seconds)]
    seconds: Duration,
    /// The jobs: CONNECTIONS/IN-FLIGHT/PAYLOAD; `beside/CALLERS`, small calls, 8 in flight, while so many others each carry 1 MiB
    /// over the same connection; `half`, calls that begin at half of each program's own peak rate; `same`, at half of
    /// the lowest peak rate; `idle`, or `idle/CONNECTIONS`, the memory for each connection on which nothing happens.
    #[arg(long, value_delimiter = ',', value_name = "JOB", default_values_t = Shape::USUAL)]
    jobs: Vec<Shape>,
    /// The programs; all that were built in by default.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "NAME")]
    peers: Vec<Peer>,
    /// Where to draw the comparison, besides printing it.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// What each program did, job by job.
type Results = Vec<(Shape, BTreeMap<Peer, Figures>)>;

impl Compare {
    /// Compares, and prints a table.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let peers = if self.peers.is_empty() { Peer::value_variants().to_vec() } else { self.peers.clone() };
        if !cfg!(feature = "compare") {
            eprintln!(
                "built without the other frameworks; with them: cargo run --release -p bench --features compare -- compare"
            );
        }
        let progress = child::progress(self.jobs.len() * peers.len() * self.rounds.get());
        let mut results = Results::new();
        // Rates follow from peaks, so the jobs that have them come last.
        let (closed, rest): (Vec<Shape>, Vec<Shape>) = self.jobs.iter().partition(|shape| shape.is_closed());
        self.measure(
            closed.into_iter().map(|shape| (shape, BTreeMap::new())).collect(),
            &peers,
            &progress,
            &mut results,
        )?;
        let mut paced = Vec::new();
        for shape in rest {
            let rates = self.rates(shape, &peers, &mut results, &progress)?;
            paced.push((shape, rates));
        }
        self.measure(paced, &peers, &progress, &mut results)?;
        progress.finish_and_clear();
        results.retain(|(shape, _)| self.jobs.contains(shape));
        print!("{}", table::render(&results));
        if let Some(path) = &self.svg {
            std::fs::write(path, picture::draw(&results))
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// Round after round, each program does each of the jobs once in turn: what disturbs the machine disturbs all alike.
    fn measure(
        &self,
        jobs: Vec<(Shape, BTreeMap<Peer, usize>)>,
        peers: &[Peer],
        progress: &ProgressBar,
        results: &mut Results,
    ) -> Result<(), Failure> {
        let mut rounds: Vec<BTreeMap<Peer, Vec<Figures>>> = vec![BTreeMap::new(); jobs.len()];
        for _ in 0..self.rounds.get() {
            for ((shape, rates), done) in jobs.iter().zip(&mut rounds) {
                for peer in peers.iter().copied() {
                    progress.set_message(format!("{shape} {}", child::name(peer)));
                    if shape.suits(peer) {
                        done.entry(peer).or_default().push(self.once(peer, *shape, rates.get(&peer).copied())?);
                    }
                    progress.inc(1);
                }
            }
        }
        for ((shape, _), done) in jobs.into_iter().zip(rounds) {
            let medians = done.into_iter().map(|(peer, rounds)| (peer, figures::median(&rounds)));
            results.push((shape, medians.collect()));
        }
        Ok(())
    }

    /// One job, done once by one program.
    fn once(&self, peer: Peer, shape: Shape, rate: Option<usize>) -> Result<Figures, Failure> {
        let name = child::name(peer);
        let server = Server::launch("peer-server", &[&name, "127.0.0.1:0"])?;
        let work = || -> Result<Figures, Failure> {
            Ok(match shape {
                Shape::Idle { conns } => {
                    let footprint: Footprint =
                        server.ask("peer-idle", &[format!("--peer={name}"), format!("--conns={conns}")])?;
                    Figures::of_idleness(footprint.server_bytes, footprint.client_bytes)
                }
                Shape::Closed { .. } | Shape::Beside { .. } | Shape::Half | Shape::Same => {
                    let job = [vec![format!("--peer={name}")], shape.arguments(self.seconds, rate)].concat();
                    Figures::of_work(&server.ask("peer-client", &job)?)
                }
            })
        };
        work().map_err(|failure| format!("{name}: {failure}").into())
    }

    /// At which rate each program is to be called.
    fn rates(
        &self,
        shape: Shape,
        peers: &[Peer],
        results: &mut Results,
        progress: &ProgressBar,
    ) -> Result<BTreeMap<Peer, usize>, Failure> {
        if matches!(shape, Shape::Idle { .. }) {
            return Ok(BTreeMap::new());
        }
        if results.iter().all(|(known, _)| *known != Shape::PEAK) {
            self.measure(vec![(Shape::PEAK, BTreeMap::new())], peers, progress, results)?;
        }
        let peak = results.iter().find(|(known, _)| *known == Shape::PEAK).map(|(_, peaks)| peaks);
        let halves: BTreeMap<Peer, usize> = peak
            .into_iter()
            .flatten()
            .filter(|(peer, _)| peer.calls())
            .map(|(peer, figures)| (*peer, (figures.rate / 2.0).max(1.0) as usize))
            .collect();
        let lowest = halves.values().copied().min().unwrap_or(1);
        Ok(match shape {
            Shape::Same => halves.into_keys().map(|peer| (peer, lowest)).collect(),
            _ => halves,
        })
    }
}
