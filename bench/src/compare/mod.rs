//! `msnb-bench compare`: runs the same workloads with one peer after the other, in rounds.

mod chart;
pub(crate) mod child;
pub(crate) mod measurement;
mod results;
mod table;
mod workload;

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::ValueEnum;
use indicatif::ProgressBar;

use self::{child::Server, measurement::Measurement, results::Results, workload::Workload};
use crate::{failure::Failure, idle::Footprint, job::positive_seconds, peers::Peer};

/// The options of `msnb-bench compare`.
#[derive(Debug, clap::Args)]
pub(crate) struct Compare {
    /// The number of rounds; the medians are printed.
    #[arg(long, value_name = "N", default_value = "5")]
    rounds: NonZeroUsize,
    /// The measured time of each run in seconds, after one second of warm-up.
    #[arg(long, value_name = "S", default_value = "2", value_parser = positive_seconds)]
    seconds: Duration,
    /// The workloads. CONNECTIONS/IN-FLIGHT/PAYLOAD: a closed loop. `beside/CALLERS`: small calls, 8 in flight, while
    /// CALLERS tasks each call with 1 MiB over the same connection. `half`: an open loop at half of each peer's own
    /// peak rate. `same`: an open loop at half of the lowest peak rate. `idle` or `idle/CONNECTIONS`: the memory per
    /// idle connection.
    #[arg(long, value_delimiter = ',', value_name = "JOB", default_values_t = Workload::DEFAULT)]
    jobs: Vec<Workload>,
    /// The peers; by default all that are compiled in.
    #[arg(long, value_delimiter = ',', value_enum, value_name = "NAME")]
    peers: Vec<Peer>,
    /// The SVG file for a chart of the comparison.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Compare {
    /// Runs the comparison and prints tables.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let peers = match &self.peers[..] {
            // A part of msnb's own cost, and no alternative to it.
            [] => Peer::value_variants().iter().copied().filter(|peer| *peer != Peer::MsnbUndescribed).collect(),
            chosen => chosen.to_vec(),
        };
        if !cfg!(feature = "compare") {
            eprintln!(
                "built without the other frameworks; to include them: cargo run --release -p bench --features compare -- compare"
            );
        }
        let progress = child::progress(self.jobs.len() * peers.len() * self.rounds.get());
        let mut results = Results::new();
        // Open loops come last, because their rates are derived from the peak rates.
        let (closed, rest): (Vec<Workload>, Vec<Workload>) =
            self.jobs.iter().partition(|workload| workload.is_closed());
        self.measure(
            closed.into_iter().map(|workload| (workload, BTreeMap::new())).collect(),
            &peers,
            &progress,
            &mut results,
        )?;
        let mut open_loops = Vec::new();
        for workload in rest {
            let rates = self.rates(workload, &peers, &mut results, &progress)?;
            open_loops.push((workload, rates));
        }
        self.measure(open_loops, &peers, &progress, &mut results)?;
        progress.finish_and_clear();
        results.retain(|(workload, _)| self.jobs.contains(workload));
        print!("{}", table::render(&results));
        if let Some(path) = &self.svg {
            std::fs::write(path, chart::draw(&results))
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// In each round, runs every workload once with each peer, so that disturbances of the machine affect all peers
    /// alike.
    fn measure(
        &self,
        jobs: Vec<(Workload, BTreeMap<Peer, usize>)>,
        peers: &[Peer],
        progress: &ProgressBar,
        results: &mut Results,
    ) -> Result<(), Failure> {
        let mut rounds: Vec<BTreeMap<Peer, Vec<Measurement>>> = vec![BTreeMap::new(); jobs.len()];
        for _ in 0..self.rounds.get() {
            for ((workload, rates), done) in jobs.iter().zip(&mut rounds) {
                for peer in peers.iter().copied() {
                    progress.set_message(format!("{workload} {}", child::name(peer)));
                    if workload.suits(peer) {
                        done.entry(peer).or_default().push(self.once(peer, *workload, rates.get(&peer).copied())?);
                    }
                    progress.inc(1);
                }
            }
        }
        for ((workload, _), done) in jobs.into_iter().zip(rounds) {
            let medians = done.into_iter().map(|(peer, rounds)| (peer, measurement::median(&rounds)));
            results.push((workload, medians.collect()));
        }
        Ok(())
    }

    /// Runs one workload once with one peer.
    fn once(&self, peer: Peer, workload: Workload, rate: Option<usize>) -> Result<Measurement, Failure> {
        let name = child::name(peer);
        let server = Server::launch("peer-server", &[&name, "127.0.0.1:0"])?;
        let run = || -> Result<Measurement, Failure> {
            Ok(match workload {
                Workload::Idle { conns } => {
                    let footprint: Footprint =
                        server.run_client("peer-idle", &[format!("--peer={name}"), format!("--conns={conns}")])?;
                    Measurement::of_idle(footprint.server_bytes, footprint.client_bytes)
                }
                Workload::Closed { .. } | Workload::Beside { .. } | Workload::Half | Workload::Same => {
                    let job = [vec![format!("--peer={name}")], workload.arguments(self.seconds, rate)].concat();
                    Measurement::of_calls(&server.run_client("peer-client", &job)?)
                }
            })
        };
        run().map_err(|failure| format!("{name}: {failure}").into())
    }

    /// Returns the rate of each peer in an open loop.
    fn rates(
        &self,
        workload: Workload,
        peers: &[Peer],
        results: &mut Results,
        progress: &ProgressBar,
    ) -> Result<BTreeMap<Peer, usize>, Failure> {
        if matches!(workload, Workload::Idle { .. }) {
            return Ok(BTreeMap::new());
        }
        if results.iter().all(|(known, _)| *known != Workload::PEAK) {
            self.measure(vec![(Workload::PEAK, BTreeMap::new())], peers, progress, results)?;
        }
        let peak = results.iter().find(|(known, _)| *known == Workload::PEAK).map(|(_, peaks)| peaks);
        let halves: BTreeMap<Peer, usize> = peak
            .into_iter()
            .flatten()
            .filter(|(peer, _)| peer.calls())
            .map(|(peer, measurement)| (*peer, (measurement.rate / 2.0).max(1.0) as usize))
            .collect();
        let lowest = halves.values().copied().min().unwrap_or(1);
        Ok(match workload {
            Workload::Same => halves.into_keys().map(|peer| (peer, lowest)).collect(),
            _ => halves,
        })
    }
}
