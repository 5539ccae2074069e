//! [`Timer`]: the wake-up of a driver.

use std::{
    pin::Pin,
    task::{self, Waker},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// The wake-up of a driver. It may fire early, never late.
#[derive(Debug, Default)]
pub(super) struct Timer(Option<Armed>);

#[derive(Debug)]
struct Armed {
    sleep: Pin<Box<Sleep>>,
    waker: Waker,
}

impl Timer {
    /// Ensures that the task of `cx` is polled at `at` or earlier.
    ///
    /// A timer that fires early enough stays as it is: resetting one costs more than a spurious wake-up.
    pub(super) fn arm(&mut self, cx: &mut task::Context<'_>, at: Instant) {
        if let Some(armed) = &self.0
            && !armed.sleep.is_elapsed()
            && armed.sleep.deadline() <= at
            && armed.waker.will_wake(cx.waker())
        {
            return;
        }
        let armed = self.0.get_or_insert_with(|| Armed { sleep: Box::pin(sleep_until(at)), waker: cx.waker().clone() });
        armed.waker.clone_from(cx.waker());
        armed.sleep.as_mut().reset(at);
        if armed.sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}
