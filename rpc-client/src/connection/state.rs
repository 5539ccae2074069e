//! [`StateCell`]: the state machine of a channel.

use std::sync::atomic::Ordering;

use rpc_core::sync::AtomicU8;

/// The state of a channel.
///
/// | from | event | to |
/// |---|---|---|
/// | `Unproven` | the first pong or response of the peer | `Open` |
/// | `Unproven`, `Open` | a GOAWAY of the peer, or the address is retired | `Draining` |
/// | any | the connection closes | `Closed` |
///
/// No other transition exists: a channel never returns to an earlier state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChannelState {
    /// The peer has sent neither a pong nor a response.
    ///
    /// A bare connect does not prove that the peer is alive.
    Unproven,
    /// The channel accepts calls.
    Open,
    /// The channel accepts no new calls. The connection ends when no call is in flight.
    Draining,
    /// The connection is closed, or closes at this moment.
    Closed,
}

/// The state of a channel, shared by its callers and its driver.
///
/// Each event sets one bit and no event clears one, so concurrent events need no order.
#[derive(Debug)]
pub(super) struct StateCell(AtomicU8);

impl StateCell {
    pub(super) fn new() -> Self {
        Self(AtomicU8::new(0))
    }

    pub(super) fn get(&self) -> ChannelState {
        match self.0.load(Ordering::Acquire) {
            bits if bits & CLOSED != 0 => ChannelState::Closed,
            bits if bits & DRAINING != 0 => ChannelState::Draining,
            bits if bits & PROVEN != 0 => ChannelState::Open,
            _ => ChannelState::Unproven,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire) == PROVEN
    }

    /// Returns whether the peer has ever sent a pong or a response, whatever the state is now.
    pub(super) fn is_proven(&self) -> bool {
        self.0.load(Ordering::Relaxed) & PROVEN != 0
    }

    /// Records a pong or a response. Returns whether the channel became open.
    pub(super) fn prove(&self) -> bool {
        // Load first: all frames but the first find the bit set, and a load does not take the cache line from the
        // callers.
        !self.is_proven() && self.0.fetch_or(PROVEN, Ordering::AcqRel) == 0
    }

    /// Starts to drain.
    pub(super) fn drain(&self) {
        self.0.fetch_or(DRAINING, Ordering::AcqRel);
    }

    /// Closes the channel.
    pub(super) fn close(&self) {
        self.0.fetch_or(CLOSED, Ordering::AcqRel);
    }
}

const PROVEN: u8 = 1;
const DRAINING: u8 = 2;
const CLOSED: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_only_advance() {
        let events: [fn(&StateCell); 3] = [|cell| _ = cell.prove(), StateCell::drain, StateCell::close];
        for first in events {
            for second in events {
                let cell = StateCell::new();
                assert_eq!(cell.get(), ChannelState::Unproven);
                first(&cell);
                let before = cell.get();
                assert_ne!(before, ChannelState::Unproven);
                second(&cell);
                assert!(cell.get() as u8 >= before as u8, "{before:?} to {:?}", cell.get());
            }
        }
    }

    #[test]
    fn proof_opens_only_an_unproven_channel() {
        let cell = StateCell::new();
        assert!(cell.prove() && cell.is_open());
        assert!(!cell.prove(), "the second proof changes nothing");
        cell.drain();
        assert_eq!((cell.get(), cell.is_open(), cell.is_proven()), (ChannelState::Draining, false, true));

        let draining = StateCell::new();
        draining.drain();
        assert!(!draining.prove() && !draining.is_open());
        assert_eq!((draining.get(), draining.is_proven()), (ChannelState::Draining, true));
        draining.close();
        assert_eq!(draining.get(), ChannelState::Closed);
    }
}
