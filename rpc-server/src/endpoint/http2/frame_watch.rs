//! [`FrameWatch`]: the limits of the frames of a connection.

use std::{io, pin::Pin, task::Context, time::Duration};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{frames::Frames, limits::Http2Limits};
use crate::endpoint::watched::Watch;

/// Fails a connection if headers arrive too slowly, and for too many frames without use.
pub(super) struct FrameWatch {
    frames: Frames,
    head_time: Duration,
    /// The time by which a list of headers must end.
    head: Option<Pin<Box<Sleep>>>,
}

impl FrameWatch {
    pub(super) fn new(limits: &Http2Limits) -> Self {
        Self { frames: Frames::new(limits.max_idle_frames), head_time: limits.head_time, head: None }
    }
}

impl Watch for FrameWatch {
    fn handle_read(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        if self.frames.handle_read(bytes).is_err() {
            let message = "the caller sends too many frames without requests (max_idle_frames of its endpoint)";
            return Err(io::Error::other(message));
        }
        if !self.frames.is_in_head() {
            self.head = None;
            return Ok(());
        }
        let until = || rpc_core::deadline_after(Instant::now(), self.head_time);
        let timer = self.head.get_or_insert_with(|| Box::pin(sleep_until(until())));
        if timer.as_mut().poll(cx).is_ready() {
            let message = "the headers of a request did not arrive in time (head_time of its endpoint)";
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        Ok(())
    }

    fn handle_write(&mut self, count: usize) {
        self.frames.handle_write(count);
    }
}
