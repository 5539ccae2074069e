//! Tasks that call, one call at a time each.

use std::sync::Arc;

use tokio::{task::JoinSet, time::Instant};

use crate::{
    Failure,
    job::{BULK, Job, Window},
    link::{Link, Sample},
    pace::Pace,
    process::Usage,
    summary::Summary,
    tally::Tallies,
};

/// Does `job` over `links`, one for each connection, with a task for each call in flight.
pub(crate) async fn call<L: Link>(links: Vec<L>, job: &Job, usage: Usage) -> Result<Summary, Failure> {
    let sample = Arc::new(Sample::new(job.payload));
    // Every connection has carried a call before the clock starts, and a server that is not there is told at once.
    for link in &links {
        link.echo(0, &sample).await?;
    }
    let window = job.window();
    let pace = Pace::start(job.rate, window.end);
    let tallies = Arc::new(Tallies::default());
    let mut callers = JoinSet::new();
    for (link, share) in links.iter().zip(job.shares()) {
        for _ in 0..share {
            // No two calls have the same id, so that a reply to another call is found.
            let first_id = (callers.len() as u64 + 1) << 40;
            let (sample, tallies) = (Arc::clone(&sample), Arc::clone(&tallies));
            let caller = Caller { link: link.clone(), sample, tallies, pace: pace.clone(), window };
            callers.spawn(caller.run(first_id));
        }
    }
    let (bulk, failed) = (Arc::new(Sample::new(BULK)), Arc::new(Tallies::default()));
    for (number, link) in links.iter().cycle().take(job.bulk).enumerate() {
        let (sample, tallies, pace) = (Arc::clone(&bulk), Arc::clone(&failed), Pace::start(None, window.end));
        let caller = Caller { link: link.clone(), sample, tallies, pace, window };
        callers.spawn(caller.run((BULK as u64 + number as u64) << 40));
    }
    let costs = usage.during(window).await?;
    while let Some(caller) = callers.join_next().await {
        caller?;
    }
    if let Some(error) = failed.sum().first_error {
        return Err(format!("a call that was not to be counted failed: {error}").into());
    }
    Ok(Summary::new(&tallies.sum(), window.length(), costs))
}

/// One call after the other.
struct Caller<L> {
    link: L,
    sample: Arc<Sample>,
    tallies: Arc<Tallies>,
    pace: Pace,
    window: Window,
}

impl<L: Link> Caller<L> {
    async fn run(self, mut id: u64) {
        let mut now = Instant::now();
        while now < self.window.end {
            let Some(begun) = self.pace.next(now).await else { break };
            let outcome = self.link.echo(id, &self.sample).await;
            now = Instant::now();
            id += 1;
            if self.window.contains(now) {
                self.tallies.local().count(outcome.is_ok(), now.duration_since(begun));
            }
            if let Err(failure) = outcome {
                self.tallies.local().note(&failure);
                // What fails at once would keep the others from their turn.
                tokio::task::yield_now().await;
            }
        }
    }
}
