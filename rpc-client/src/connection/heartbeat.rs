//! [`Heartbeat`]: when a client pings a peer, and when it declares a peer dead.

use std::time::Duration;

use rpc_core::{
    deadline_after,
    transport::{Activity, CloseReason},
};
use tokio::time::Instant;

/// The pings of one connection. Does no I/O and has no clock.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    after: Duration,
    timeout: Duration,
    /// When the ping was sent that is still unanswered.
    unanswered: Option<Instant>,
}

/// The action that is due now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beat {
    /// Whether to send a ping.
    pub(crate) ping: bool,
    /// When to call [`Heartbeat::beat`] again at the latest.
    pub(crate) wake_at: Instant,
}

impl Heartbeat {
    pub(crate) fn new(after: Duration, timeout: Duration) -> Self {
        Self { after, timeout, unanswered: None }
    }

    /// Returns the action that is due after the given activity of the connection.
    ///
    /// A ping is due when the driver has written nothing for `after`. It is also due when the driver has read nothing
    /// for `after` while calls are in flight: otherwise a peer that keeps receiving and never answers would not be
    /// detected. `urgent` makes a ping due at once.
    ///
    /// # Errors
    ///
    /// [`CloseReason::PongOverdue`] when the driver has read nothing for `timeout` after a ping.
    pub(crate) fn beat(
        &mut self,
        activity: &Activity,
        calls_in_flight: bool,
        urgent: bool,
        now: Instant,
    ) -> Result<Beat, CloseReason> {
        // Any byte proves that the peer is alive.
        if self.unanswered.is_some_and(|sent| activity.last_read > sent) {
            self.unanswered = None;
        }
        if let Some(sent) = self.unanswered {
            let dead_at = deadline_after(sent, self.timeout);
            if now >= dead_at {
                return Err(CloseReason::PongOverdue(self.timeout));
            }
            return Ok(Beat { ping: false, wake_at: dead_at });
        }
        let idle_at = deadline_after(activity.last_write, self.after);
        let due_at =
            if calls_in_flight { idle_at.min(deadline_after(activity.last_read, self.after)) } else { idle_at };
        if now < due_at && !urgent {
            return Ok(Beat { ping: false, wake_at: due_at });
        }
        self.unanswered = Some(now);
        Ok(Beat { ping: true, wake_at: deadline_after(now, self.timeout) })
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
    fn idle_connection_is_pinged_after_3_s_and_closed_5_s_later() {
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
    fn urgent_ping_is_sent_at_once() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(AFTER, TIMEOUT);
        assert!(heartbeat.beat(&activity(start, start), false, true, start).unwrap().ping);
        assert!(
            !heartbeat.beat(&activity(start, start), false, true, second(start, 1)).unwrap().ping,
            "one ping at a time"
        );
    }

    #[test]
    fn any_byte_answers_a_ping() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(AFTER, TIMEOUT);
        assert!(heartbeat.beat(&activity(start, start), false, false, second(start, 3)).unwrap().ping);
        let heard = activity(second(start, 4), second(start, 3));
        assert!(heartbeat.beat(&heard, false, false, second(start, 9)).unwrap().ping, "the connection is idle again");
    }

    #[test]
    fn peer_that_only_receives_is_pinged() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(AFTER, TIMEOUT);
        let busy = |now| activity(start, now);
        assert!(!heartbeat.beat(&busy(second(start, 3)), false, false, second(start, 3)).unwrap().ping);
        assert!(heartbeat.beat(&busy(second(start, 3)), true, false, second(start, 3)).unwrap().ping);
        assert!(heartbeat.beat(&busy(second(start, 8)), true, false, second(start, 8)).is_err());
    }
}
