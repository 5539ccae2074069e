//! Load on a method: calls in a closed or an open loop, and their latencies.
//!
//! | topic | module |
//! |---|---|
//! | a repeatable call | `call` |
//! | the result | `report` |
//!
//! The crate `loadgen` has the start times of calls, and latencies over time with their chart.

mod call;
mod report;

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use loadgen::Pace;
use tokio::{task::JoinSet, time::Instant};

use self::call::Items;
pub(crate) use self::{
    call::{Call, Streams},
    report::Report,
};

/// Calls of one method in progress. Dropping it ends them.
pub(crate) struct Load {
    callers: JoinSet<()>,
    report: Arc<Mutex<Report>>,
    items: Arc<Items>,
    start: Instant,
}

impl Load {
    /// Begins calls, at most `concurrency` at a time, until `length` has passed.
    ///
    /// With a rate, calls start on schedule, and latencies count from the scheduled start. Otherwise each call starts when
    /// the previous one has ended.
    pub(crate) fn begin(call: &Call, concurrency: NonZeroUsize, rate: Option<NonZeroUsize>, length: Duration) -> Self {
        let start = Instant::now();
        let end = start + length;
        let report = Arc::new(Mutex::new(Report::new(length)));
        let items = Arc::new(Items::default());
        let pace = Pace::start(rate, end);
        let mut callers = JoinSet::new();
        for _ in 0..concurrency.get() {
            callers.spawn(call_until(end, start, call.clone(), pace.clone(), Arc::clone(&report), Arc::clone(&items)));
        }
        Self { callers, report, items, start }
    }

    /// Returns the results until now.
    pub(crate) fn report(&self) -> Report {
        let mut report = lock(&self.report).clone();
        report.elapsed = self.start.elapsed();
        (report.sent, report.received) = self.items();
        report
    }

    /// Returns the numbers of calls and of failed calls until now.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let report = lock(&self.report);
        (report.calls(), report.failed())
    }

    /// Returns the numbers of sent and of received items of streams until now.
    pub(crate) fn items(&self) -> (u64, u64) {
        (self.items.sent.load(Relaxed), self.items.received.load(Relaxed))
    }

    /// Returns the time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Waits until the time has passed and all calls have ended.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub(crate) async fn ended(&mut self) {
        while self.callers.join_next().await.is_some() {}
    }

    /// Aborts the calls in flight, which do not count.
    pub(crate) async fn end(mut self) -> Report {
        self.callers.shutdown().await;
        self.report()
    }
}

/// Makes one call after the other until `end`.
///
/// All tasks share the report, so that it is complete after Ctrl-C too. One lock is fast enough for some ten thousand
/// calls per second.
async fn call_until(
    end: Instant,
    start: Instant,
    call: Call,
    pace: Pace,
    report: Arc<Mutex<Report>>,
    items: Arc<Items>,
) {
    let mut now = Instant::now();
    while now < end {
        let Some(scheduled) = pace.next(now).await else { break };
        let outcome = call.run(end, &items).await;
        now = Instant::now();
        let failed = outcome.is_err();
        lock(&report).count(now - start, now.duration_since(scheduled), outcome);
        if failed {
            // A call that fails at once may never suspend, and would starve other tasks.
            tokio::task::yield_now().await;
        }
    }
}

fn lock(report: &Mutex<Report>) -> MutexGuard<'_, Report> {
    report.lock().unwrap_or_else(PoisonError::into_inner)
}
