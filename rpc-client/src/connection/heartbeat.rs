//! [`Heartbeat`]: when to ping, and when a peer that does not answer is dead.

use std::time::Duration;

use rpc_core::transport::{Activity, CloseReason};
use tokio::time::Instant;

/// The pings of one connection. Does no I/O and has no clock of its own.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    after: Duration,
    timeout: Duration,
    /// When the ping was sent that nothing has answered yet.
    unanswered: Option<Instant>,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) ping: bool,
    /// When to look again at the latest.
    pub(crate) wake_at: Instant,
}

impl Heartbeat {
    pub(crate) fn new(after: Duration, timeout: Duration) -> Self {
        Self { after, timeout, unanswered: None }
    }

    /// Looks at what happened on the connection. A ping is due when nothing was written for a while, and also when nothing was
    /// read although answers are awaited: a peer that is written to without end but never answers must be found too.
    /// `urgent` asks for a ping at once.
    pub(crate) fn beat(
        &mut self,
        activity: &Activity,
        awaits: bool,
        urgent: bool,
        now: Instant,
    ) -> Result<Beat, CloseReason> {
        // Any byte is a sign of life.
        if self.unanswered.is_some_and(|sent| activity.last_read > sent) {
            self.unanswered = None;
        }
        if let Some(sent) = self.unanswered {
            let dead_at = sent + self.timeout;
            if now >= dead_at {
                return Err(CloseReason::PongOverdue(self.timeout));
            }
            return Ok(Beat { ping: false, wake_at: dead_at });
        }
        let quiet_at = activity.last_write + self.after;
        let due_at = if awaits { quiet_at.min(activity.last_read + self.after) } else { quiet_at };
        if now < due_at && !urgent {
            return Ok(Beat { ping: false, wake_at: due_at });
        }
        self.unanswered = Some(now);
        Ok(Beat { ping: true, wake_at: now + self.timeout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(3);
    const TIMEOUT: Duration = Duration::from_secs(5);

    fn second(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn activity(last_read: Instant, last_write: Instant) -> Activity {
        let mut activity = Activity::new(last_read);
        activity.last_write = last_write;
        activity
    }

    #[test]
    fn pings_after_3_s_of_silence_and_gives_up_5_s_later() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(AFTER, TIMEOUT);
        let quiet = activity(start, start);
        assert_eq!(
            heartbeat.beat(&quiet, false, false, second(start, 2)).unwrap(),
            Beat { ping: false, wake_at: second(start, 3) }
        );
        let pinged = activity(start, second(start, 3));
        assert_eq!(
            heartbeat.beat(&quiet, false, false, second(start, 3)).unwrap(),
            Beat { ping: true, wake_at: second(start, 8) }
        );
        assert!(!heartbeat.beat(&pinged, false, false, second(start, 7)).unwrap().ping, "one ping at a time");
        assert!(heartbeat.beat(&pinged, false, false, second(start, 8)).is_err());
    }

    #[test]
    fn an_urgent_ping_goes_at_once() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(AFTER, TIMEOUT);
        assert!(heartbeat.beat(&activity(start, start), false, true, start).unwrap().ping);
        assert!(!heartbeat.beat(&activity(start, start), false, true, second(start, 1)).unwrap().ping, "one at a time");
    }

    #[test]
    fn any_byte_answers_a_ping() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(AFTER, TIMEOUT);
        assert!(heartbeat.beat(&activity(start, start), false, false, second(start, 3)).unwrap().ping);
        let heard = activity(second(start, 4), second(start, 3));
        assert!(heartbeat.beat(&heard, false, false, second(start, 9)).unwrap().ping, "silence again");
    }

    #[test]
    fn a_peer_that_is_written_to_and_never_answers_is_pinged_too() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(AFTER, TIMEOUT);
        let busy = |now| activity(start, now);
        assert!(!heartbeat.beat(&busy(second(start, 3)), false, false, second(start, 3)).unwrap().ping);
        assert!(heartbeat.beat(&busy(second(start, 3)), true, false, second(start, 3)).unwrap().ping);
        assert!(heartbeat.beat(&busy(second(start, 8)), true, false, second(start, 8)).is_err());
    }
}
