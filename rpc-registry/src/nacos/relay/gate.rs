//! [`Gate`]: distinguishes connections of nacos-sdk from reconnects of tonic. No I/O.

use std::time::Duration;

use tokio::time::Instant;

/// The treatment of an incoming connection.
#[derive(Debug, PartialEq)]
pub(super) enum Decision {
    Forward,
    Close,
    /// Keep it open without an answer.
    Hold,
}

/// Decides by the local port.
///
/// The SDK changes the port with each new connection, and tonic reconnects to the same port.
#[derive(Default)]
pub(super) struct Gate {
    /// The port of the last forwarded connection.
    port: Option<usize>,
    /// The time of the first rejected connection since then.
    first_rejection: Option<Instant>,
}

impl Gate {
    /// Decides about a connection to the local port with this index.
    pub(super) fn decide(&mut self, now: Instant, port: usize) -> Decision {
        if self.port != Some(port) {
            *self = Self { port: Some(port), first_rejection: None };
            return Decision::Forward;
        }
        let since = *self.first_rejection.get_or_insert(now);
        if now < since + CLOSE_PERIOD { Decision::Close } else { Decision::Hold }
    }
}

/// How long reconnects of tonic are closed at once, from the first of them on.
///
/// While the SDK sets up a connection it waits for each failure, and starts again after five of them, 4.5 s.
const CLOSE_PERIOD: Duration = Duration::from_secs(6);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gate_closes_then_holds_reconnects() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        assert_eq!(gate.decide(now, 1), Decision::Forward);
        assert_eq!(gate.decide(now, 1), Decision::Close);
        assert_eq!(gate.decide(now + CLOSE_PERIOD - Duration::from_millis(1), 1), Decision::Close);
        assert_eq!(gate.decide(now + CLOSE_PERIOD, 1), Decision::Hold);
        assert_eq!(gate.decide(now + CLOSE_PERIOD, 0), Decision::Forward);
        assert_eq!(gate.decide(now + CLOSE_PERIOD, 0), Decision::Close);
        assert_eq!(gate.decide(now + CLOSE_PERIOD, 1), Decision::Forward);
    }
}
