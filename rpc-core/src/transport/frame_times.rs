//! [`FrameTimes`]: the deadlines of incomplete frames.

use tokio::time::Instant;

use super::{
    FrameReader, TransportConfig,
    extended_time::{ExtendedTime, extended_deadline},
};
use crate::frame::Violation;

/// The deadlines of the incomplete frame, and of the oldest body of which fragments are missing.
#[derive(Debug, Default)]
pub(super) struct FrameTimes {
    /// When the first byte of the incomplete frame was read.
    frame: Option<Instant>,
    fragments: Option<FragmentTime>,
}

#[derive(Debug)]
struct FragmentTime {
    /// The ordinal number of the body.
    number: u64,
    /// The call of the body.
    id: u32,
    /// The time since the body became the oldest one. All received bytes extend it: other frames pass between the
    /// fragments.
    time: ExtendedTime,
}

impl FrameTimes {
    /// Records that a frame or fragment is complete.
    pub(super) fn frame_completed(&mut self) {
        self.frame = None;
    }

    /// Restarts all times: they do not count while the driver does not read.
    pub(super) fn pause(&mut self) {
        *self = Self::default();
    }

    /// Records that the connection has received bytes.
    pub(super) fn received(&mut self, count: usize) {
        if let Some(fragments) = &mut self.fragments {
            fragments.time.record_received(count);
        }
    }

    /// Starts or checks the deadlines.
    ///
    /// # Errors
    ///
    /// [`Violation::SlowFrame`] or [`Violation::SlowFragments`]
    pub(super) fn check(
        &mut self,
        reader: &FrameReader,
        config: &TransportConfig,
        now: Instant,
    ) -> Result<(), Violation> {
        if reader.is_mid_frame() {
            self.frame.get_or_insert(now);
            if self.frame_deadline(reader, config).is_some_and(|deadline| now >= deadline) {
                return Err(Violation::SlowFrame(reader.frame_length()));
            }
        }
        let oldest = reader.oldest_fragmented();
        if self.fragments.as_ref().map(|time| time.number) != oldest.map(|(number, _)| number) {
            self.fragments = oldest.map(|(number, id)| FragmentTime { number, id, time: ExtendedTime::new(now) });
        }
        match &self.fragments {
            Some(time) if now >= time.deadline(config) => Err(Violation::SlowFragments(time.id)),
            _ => Ok(()),
        }
    }

    /// Returns the earlier deadline.
    pub(super) fn deadline(&self, reader: &FrameReader, config: &TransportConfig) -> Option<Instant> {
        let fragments = self.fragments.as_ref().map(|time| time.deadline(config));
        [self.frame_deadline(reader, config), fragments].into_iter().flatten().min()
    }

    fn frame_deadline(&self, reader: &FrameReader, config: &TransportConfig) -> Option<Instant> {
        Some(extended_deadline(self.frame?, config.frame_time, reader.frame_length()))
    }
}

impl FragmentTime {
    fn deadline(&self, config: &TransportConfig) -> Instant {
        self.time.deadline(config.frame_time)
    }
}
