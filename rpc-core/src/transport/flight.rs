//! [`Flight`]: the window of fragments.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::extended_time::ExtendedTime;
use crate::frame::{FRAGMENT, MIN_FRAGMENT_BODY, Violation};

/// The fragments that were written and that the peer has not acknowledged.
///
/// Fragments that wait in the sockets delay short frames, so their number is limited by a window. As that of TCP Vegas, it
/// follows the delay of the acknowledgements: it grows while the delay is close to the shortest one, which is that of the
/// network, and shrinks when the delay shows that fragments wait somewhere.
#[derive(Debug)]
pub(super) struct Flight {
    /// The number of bytes that may be unacknowledged; one fragment may exceed it.
    window: usize,
    unacknowledged: usize,
    /// The length of each unacknowledged fragment, and when it was taken to be written.
    sent: VecDeque<(usize, Instant)>,
    /// The shortest delay in the current and in the previous period of [`PERIOD`].
    shortest: [Duration; 2],
    period_end: Option<Instant>,
    /// The number of bytes to be acknowledged until the window may shrink again: once in a round trip.
    shrunk_for: usize,
    /// The number of bytes to be acknowledged that were sent while the window limited the sender. It grows only then.
    limited_for: usize,
    /// When a short frame was last written.
    short_frame: Option<Instant>,
    /// The time since the first of the unacknowledged fragments was taken, or since the last ACK.
    progress: Option<ExtendedTime>,
}

impl Flight {
    pub(super) fn new() -> Self {
        Self {
            window: INITIAL_WINDOW,
            unacknowledged: 0,
            sent: VecDeque::new(),
            shortest: [Duration::MAX; 2],
            period_end: None,
            shrunk_for: 0,
            limited_for: 0,
            short_frame: None,
            progress: None,
        }
    }

    /// Returns the number of bytes of fragments that may be written now.
    pub(super) fn room(&self) -> usize {
        self.window.saturating_sub(self.unacknowledged)
    }

    /// Records that `bytes` of fragments were taken to be written.
    pub(super) fn record_sent(&mut self, bytes: usize, now: Instant) {
        if bytes > 0 {
            self.progress.get_or_insert(ExtendedTime::new(now));
            self.unacknowledged += bytes;
            self.sent.push_back((bytes, now));
            if self.room() == 0 {
                self.limited_for = self.unacknowledged;
            }
        }
    }

    /// Records that a short frame of a call is to be written.
    pub(super) fn record_short_frame(&mut self, now: Instant) {
        self.short_frame = Some(now);
    }

    /// Returns whether long frames must be sent in fragments, because the connection has short ones too.
    ///
    /// Whole frames need fewer writes and wake-ups.
    pub(super) fn divides(&self, now: Instant) -> bool {
        self.short_frame.is_some_and(|at| now < at + SHORT_FRAMES)
    }

    /// Handles the body of an ACK.
    ///
    /// # Errors
    ///
    /// [`Violation::BadAck`] if it is malformed, acknowledges less than a fragment, or bytes that were not sent.
    pub(super) fn handle_ack(&mut self, body: &[u8], now: Instant) -> Result<(), Violation> {
        let bytes = body.try_into().map(u32::from_be_bytes).map_err(|_| Violation::BadAck)? as usize;
        if !(MIN_FRAGMENT_BODY..=self.unacknowledged).contains(&bytes) {
            return Err(Violation::BadAck);
        }
        self.unacknowledged -= bytes;
        self.progress = (self.unacknowledged > 0).then(|| ExtendedTime::new(now));
        let mut left = bytes;
        let mut delay = None;
        while let Some((length, at)) = self.sent.front_mut() {
            if *length > left {
                *length -= left;
                break;
            }
            left -= *length;
            delay = Some(now.saturating_duration_since(*at));
            self.sent.pop_front();
        }
        if self.sent.is_empty() {
            self.sent = VecDeque::new();
        }
        if let Some(delay) = delay {
            self.adapt(delay, bytes, now);
        }
        self.shrunk_for = self.shrunk_for.saturating_sub(bytes);
        self.limited_for = self.limited_for.saturating_sub(bytes);
        Ok(())
    }

    /// Adapts the window to the delay of an acknowledgement.
    fn adapt(&mut self, delay: Duration, bytes: usize, now: Instant) {
        if self.period_end.is_none_or(|end| now >= end) {
            self.shortest = [delay, self.shortest[0]];
            self.period_end = Some(now + PERIOD);
        }
        self.shortest[0] = self.shortest[0].min(delay);
        let shortest = self.shortest[0].min(self.shortest[1]);
        if delay <= shortest * 3 / 2 + TOLERANCE {
            if self.limited_for > 0 {
                self.window = (self.window + bytes).min(MAX_WINDOW);
            }
        } else if self.shrunk_for == 0 {
            self.window = (self.window / 4 * 3).max(MIN_WINDOW);
            self.shrunk_for = self.unacknowledged + bytes;
        }
    }

    /// Returns when the next ACK must have arrived; `None` if none is missing.
    ///
    /// `stall` is the time in which a blocked write must make progress. Fragments may be behind other frames in the
    /// sockets, and the ACK behind frames of the peer.
    pub(super) fn deadline(&self, stall: Duration) -> Option<Instant> {
        self.progress.map(|progress| progress.deadline(stall.saturating_mul(ACK_STALLS)))
    }

    /// Records that the connection has received bytes, which extends the time of the next ACK.
    pub(super) fn record_received(&mut self, count: usize) {
        if let Some(progress) = &mut self.progress {
            progress.record_received(count);
        }
    }

    /// Restarts the time of the next ACK: it does not count while the driver does not read.
    pub(super) fn restart(&mut self, now: Instant) {
        self.progress = self.progress.map(|_| ExtendedTime::new(now));
    }
}

/// The window at the start of a connection, in bytes.
const INITIAL_WINDOW: usize = 4 * FRAGMENT;
/// The smallest window: one fragment on the way while the peer reads another.
const MIN_WINDOW: usize = 2 * FRAGMENT;
/// The largest window, in bytes. It fills a link of 1 Gbit/s with a round-trip time of 120 ms.
const MAX_WINDOW: usize = 16 << 20;
/// The delay that the window tolerates in addition to 1.5 times the shortest one: the time of a busy driver's turn.
const TOLERANCE: Duration = Duration::from_micros(100);
/// How long long frames are sent in fragments after the last short frame.
const SHORT_FRAMES: Duration = Duration::from_secs(10);
/// The time of an ACK, as a multiple of that in which a blocked write must make progress.
const ACK_STALLS: u32 = 6;
/// After two of these periods, a shortest delay is forgotten: the route may have changed.
const PERIOD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(bytes: usize) -> [u8; 4] {
        (bytes as u32).to_be_bytes()
    }

    /// Sends as many fragments as the window permits, and acknowledges them all after `delay`.
    fn round(flight: &mut Flight, now: &mut Instant, delay: Duration) {
        let sent = flight.room();
        for _ in 0..sent.div_ceil(FRAGMENT) {
            flight.record_sent(FRAGMENT, *now);
        }
        *now += delay;
        for _ in 0..sent.div_ceil(FRAGMENT) {
            flight.handle_ack(&ack(FRAGMENT), *now).unwrap();
        }
    }

    #[test]
    fn frames_are_divided_after_a_short_frame() {
        let (mut flight, now) = (Flight::new(), Instant::now());
        assert!(!flight.divides(now));
        flight.record_short_frame(now);
        assert!(flight.divides(now) && !flight.divides(now + SHORT_FRAMES));
    }

    #[test]
    fn window_grows_while_the_delay_is_short() {
        let (mut flight, mut now) = (Flight::new(), Instant::now());
        for _ in 0..10 {
            round(&mut flight, &mut now, Duration::from_millis(50));
        }
        assert_eq!((flight.window, flight.progress), (MAX_WINDOW, None));
    }

    #[test]
    fn window_shrinks_while_fragments_wait() {
        let (mut flight, mut now) = (Flight::new(), Instant::now());
        round(&mut flight, &mut now, Duration::from_millis(1));
        let before = flight.window;
        round(&mut flight, &mut now, Duration::from_millis(3));
        assert_eq!(flight.window, before / 4 * 3, "once in a round trip");
        for _ in 0..20 {
            round(&mut flight, &mut now, Duration::from_millis(3));
        }
        assert_eq!(flight.window, MIN_WINDOW);
    }

    #[test]
    fn old_shortest_delay_is_forgotten() {
        let (mut flight, mut now) = (Flight::new(), Instant::now());
        round(&mut flight, &mut now, Duration::from_millis(1));
        for _ in 0..2 {
            now += PERIOD;
            round(&mut flight, &mut now, Duration::from_millis(50));
        }
        let before = flight.window;
        round(&mut flight, &mut now, Duration::from_millis(50));
        assert!(flight.window > before);
    }

    #[test]
    fn unlimited_sender_keeps_its_window() {
        let (mut flight, now) = (Flight::new(), Instant::now());
        flight.record_sent(FRAGMENT, now);
        flight.handle_ack(&ack(FRAGMENT), now).unwrap();
        assert_eq!(flight.window, INITIAL_WINDOW);
    }

    #[test]
    fn acks_of_unsent_bytes_are_violations() {
        let (mut flight, now) = (Flight::new(), Instant::now());
        let least = MIN_FRAGMENT_BODY;
        flight.record_sent(2 * least, now);
        assert_eq!(flight.room(), INITIAL_WINDOW - 2 * least);
        assert_eq!(flight.handle_ack(&ack(least - 1), now), Err(Violation::BadAck));
        let later = now + TOLERANCE;
        assert_eq!(flight.handle_ack(&ack(least), later), Ok(()));
        let stall = Duration::from_secs(1);
        assert_eq!(flight.deadline(stall), Some(later + ACK_STALLS * stall));
        flight.record_received(64 << 10);
        assert_eq!(flight.deadline(stall), Some(later + (ACK_STALLS + 1) * stall));
        assert_eq!(flight.handle_ack(&ack(least + 1), later), Err(Violation::BadAck));
        assert_eq!(flight.handle_ack(&[0; 3], later), Err(Violation::BadAck));
        assert_eq!(flight.handle_ack(&ack(least), later), Ok(()));
        assert_eq!(flight.deadline(stall), None);
    }
}
