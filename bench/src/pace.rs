//! [`Pace`]: when each call is to begin.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

/// When each call is to begin: as soon as its task is free, or at a steady rate.
#[derive(Debug, Clone)]
pub(crate) enum Pace {
    /// As soon as its task is free.
    Closed,
    /// At a steady rate, whether or not earlier calls have ended.
    Open(Arc<Schedule>),
}

/// A steady rate that all tasks share.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    rate: f64,
    /// Calls that are due and not begun.
    due: Semaphore,
    begun: AtomicU64,
}

impl Pace {
    /// Starts now; at a rate, nothing is due from `end` on.
    pub(crate) fn start(rate: Option<NonZeroUsize>, end: Instant) -> Self {
        let Some(rate) = rate else { return Self::Closed };
        let schedule = Arc::new(Schedule {
            start: Instant::now(),
            rate: rate.get() as f64,
            due: Semaphore::new(0),
            begun: AtomicU64::new(0),
        });
        let clock = Arc::clone(&schedule);
        // Tokio's timer has a grain of a millisecond, a thread's sleep one of some 50 µs.
        std::thread::spawn(move || {
            let mut released = 0;
            while Instant::now() < end {
                released = clock.release(released);
                std::thread::sleep(GRAIN);
            }
            clock.due.close();
        });
        Self::Open(schedule)
    }

    /// Waits until a call is due; says when it was to begin, or that no more is due. `now` is when the task became free.
    pub(crate) async fn next(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Closed => Some(now),
            Self::Open(schedule) => schedule.next().await,
        }
    }
}

impl Schedule {
    /// Lets what is due by now begin, given how many were due before.
    fn release(&self, released: u64) -> u64 {
        // The first one at once.
        let due = (self.start.elapsed().as_secs_f64() * self.rate) as u64 + 1;
        self.due.add_permits((due - released) as usize);
        due
    }

    async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        Some(self.start + Duration::from_secs_f64(number as f64 / self.rate))
    }
}

const GRAIN: Duration = Duration::from_micros(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_due_when_it_was_to_begin_and_not_a_period_later() {
        let start = Instant::now() - Duration::from_millis(150);
        let schedule = Schedule { start, rate: 0.1, due: Semaphore::new(0), begun: AtomicU64::new(0) };
        assert_eq!(schedule.release(0), 1, "the first is due at once, the second after 10 s");
        assert_eq!(schedule.due.available_permits(), 1);
        assert_eq!(schedule.release(1), 1);
        assert_eq!(schedule.due.available_permits(), 1);
    }
}
