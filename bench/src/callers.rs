//! Tasks that make one call at a time.

use std::sync::Arc;

use loadgen::Pace;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    failure::Failure,
    job::{BULK, Job, Window},
    link::{Link, Sample},
    process::Usage,
    stats::ShardedStats,
    summary::Summary,
};

/// Runs `job` over `links`, one link per connection, with one task for each call in flight.
pub(crate) async fn call<L: Link>(links: Vec<L>, job: &Job, usage: Usage) -> Result<Summary, Failure> {
    let sample = Arc::new(Sample::new(job.payload));
    // Each connection carries a call before the measurement, so an unreachable server is reported at once.
    for link in &links {
        let (first, sample) = (link.clone(), Arc::clone(&sample));
        link.runtime().spawn(async move { first.echo(0, &sample).await }).await??;
    }
    let window = job.window();
    let pace = Pace::start(job.rate, window.end);
    let stats = Arc::new(ShardedStats::default());
    let mut callers = JoinSet::new();
    for (link, share) in links.iter().zip(job.shares()) {
        for _ in 0..share {
            // Ids are unique, so that a reply to another call is detected.
            let first_id = (callers.len() as u64 + 1) << 40;
            let (sample, stats) = (Arc::clone(&sample), Arc::clone(&stats));
            let caller = Caller { link: link.clone(), sample, stats, pace: pace.clone(), window };
            callers.spawn_on(caller.run(first_id), &link.runtime());
        }
    }
    let (bulk, bulk_stats) = (Arc::new(Sample::new(BULK)), Arc::new(ShardedStats::default()));
    for (number, link) in links.iter().cycle().take(job.bulk).enumerate() {
        let (sample, stats, pace) = (Arc::clone(&bulk), Arc::clone(&bulk_stats), Pace::start(None, window.end));
        let caller = Caller { link: link.clone(), sample, stats, pace, window };
        callers.spawn_on(caller.run((BULK as u64 + number as u64) << 40), &link.runtime());
    }
    let cpu = usage.during(window).await?;
    while let Some(caller) = callers.join_next().await {
        caller?;
    }
    if let Some(error) = bulk_stats.sum().first_error {
        return Err(format!("a bulk call failed: {error}").into());
    }
    Ok(Summary::new(&stats.sum(), window.length(), cpu))
}

/// The calls of [`repeat`].
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Repeats {
    /// The number of tasks.
    #[arg(long)]
    pub(crate) inflight: usize,
    /// The payload of each call, in bytes.
    #[arg(long)]
    pub(crate) payload: usize,
    /// The number of calls that each task makes.
    #[arg(long)]
    pub(crate) turns: u64,
}

/// Makes a fixed number of calls over the first of `links`.
pub(crate) async fn repeat<L: Link>(links: Vec<L>, repeats: Repeats) -> Result<(), Failure> {
    let link = links.first().ok_or("expected a link")?;
    let sample = Arc::new(Sample::new(repeats.payload));
    let mut callers = JoinSet::new();
    for caller in 0..repeats.inflight as u64 {
        let (link, sample) = (link.clone(), Arc::clone(&sample));
        callers.spawn(async move {
            for turn in 0..repeats.turns {
                link.echo(caller << 40 | turn, &sample).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

/// A task that makes one call after the other.
struct Caller<L> {
    link: L,
    sample: Arc<Sample>,
    stats: Arc<ShardedStats>,
    pace: Pace,
    window: Window,
}

impl<L: Link> Caller<L> {
    async fn run(self, mut id: u64) {
        let mut now = Instant::now();
        while now < self.window.end {
            let Some(scheduled) = self.pace.next(now).await else { break };
            let outcome = self.link.echo(id, &self.sample).await;
            now = Instant::now();
            id += 1;
            if self.window.contains(now) {
                self.stats.local().count(outcome.is_ok(), now.duration_since(scheduled));
            }
            if let Err(failure) = outcome {
                self.stats.local().note(&failure);
                // A call that fails at once may never suspend, and would starve other tasks.
                tokio::task::yield_now().await;
            }
        }
    }
}
