//! [`Pace`]: the start times of calls.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

/// The start times of calls: a closed or an open loop.
#[derive(Debug, Clone)]
pub enum Pace {
    /// Closed loop: each call starts when its task has finished the previous one.
    Closed,
    /// Open loop: calls start at a constant rate, independent of earlier calls.
    Open(Arc<Schedule>),
}

/// A constant rate that all tasks share.
#[derive(Debug)]
pub struct Schedule {
    start: Instant,
    rate: f64,
    /// One permit for each call that is due and not started.
    due: Semaphore,
    started: AtomicU64,
}

impl Pace {
    /// Starts now. In an open loop, no call is due after `end`.
    pub fn start(rate: Option<NonZeroUsize>, end: Instant) -> Self {
        let Some(rate) = rate else { return Self::Closed };
        let schedule = Arc::new(Schedule {
            start: Instant::now(),
            rate: rate.get() as f64,
            due: Semaphore::new(0),
            started: AtomicU64::new(0),
        });
        let clock = Arc::clone(&schedule);
        // A thread, because Tokio's timer has a resolution of 1 ms, and a thread's sleep one of about 50 µs.
        std::thread::spawn(move || {
            let mut released = 0;
            while Instant::now() < end {
                released = clock.release(released);
                std::thread::sleep(RELEASE_INTERVAL);
            }
            clock.due.close();
        });
        Self::Open(schedule)
    }

    /// Waits until a call is due and returns its scheduled start, or `None` after the end. `now` is the time at which
    /// the task became free.
    pub async fn next(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Closed => Some(now),
            Self::Open(schedule) => schedule.next().await,
        }
    }
}

impl Schedule {
    /// Releases the calls that are due by now, given the number of calls released before. Returns the new number.
    fn release(&self, released: u64) -> u64 {
        // The first call is due at once.
        let due = (self.start.elapsed().as_secs_f64() * self.rate) as u64 + 1;
        self.due.add_permits((due - released) as usize);
        due
    }

    async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        Some(self.start + Duration::from_secs_f64(number as f64 / self.rate))
    }
}

const RELEASE_INTERVAL: Duration = Duration::from_micros(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_is_due_at_its_scheduled_start() {
        let start = Instant::now() - Duration::from_millis(150);
        let schedule = Schedule { start, rate: 0.1, due: Semaphore::new(0), started: AtomicU64::new(0) };
        assert_eq!(schedule.release(0), 1, "the first call is due at once, the second after 10 s");
        assert_eq!(schedule.due.available_permits(), 1);
        assert_eq!(schedule.release(1), 1);
        assert_eq!(schedule.due.available_permits(), 1);
    }
}
