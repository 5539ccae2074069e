//! [`BlockedWrite`]: the time in which the peer of an endpoint's connection does not read.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// The time in which the peer of an endpoint's connection accepts fewer than 16 KiB.
#[derive(Debug)]
pub(super) struct BlockedWrite {
    limit: Duration,
    /// The bytes that the peer has accepted since a write was blocked, and the end of the limit.
    blocked: Option<(usize, Pin<Box<Sleep>>)>,
}

impl BlockedWrite {
    /// Creates the state of a connection whose writes may be blocked for `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, blocked: None }
    }

    /// Records the result of a write. Returns whether the limit has passed.
    pub(super) fn is_overdue(&mut self, cx: &mut Context<'_>, written: &Poll<io::Result<usize>>) -> bool {
        match written {
            Poll::Ready(Ok(count)) => {
                if let Some((progress, _)) = &mut self.blocked {
                    *progress += count;
                    if *progress >= MIN_PROGRESS {
                        self.blocked = None;
                    }
                }
                false
            }
            Poll::Ready(Err(_)) => false,
            Poll::Pending => {
                let until = || rpc_core::deadline_after(Instant::now(), self.limit);
                let (_, timer) = self.blocked.get_or_insert_with(|| (0, Box::pin(sleep_until(until()))));
                timer.as_mut().poll(cx).is_ready()
            }
        }
    }
}

/// The number of bytes that the peer must accept within the limit.
const MIN_PROGRESS: usize = 16 << 10;
