//! [`Fault`]: a fault of a provider or of the network to it.

use std::time::Duration;

use rustix::process::Signal;

use super::{peers::FaultPeer, provider::Provider, relay::Relay};
use crate::failure::Failure;

/// A fault of a provider or of the network to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Fault {
    /// The process is killed, and started again at its address.
    Kill,
    /// The process is stopped (SIGSTOP), and continued.
    Pause,
    /// The network to the provider drops all bytes; its connections stay open.
    BlackHole,
    /// The process is asked to end (SIGTERM), and started again at its address.
    Drain,
    /// Each call takes 300 ms longer.
    Outlier,
    /// Handlers do not answer.
    Hang,
}

impl Fault {
    pub(super) fn begin(self, provider: &mut Provider, relay: Option<&Relay>) -> Result<(), Failure> {
        match self {
            Self::Kill => provider.signal(Signal::KILL),
            Self::Pause => provider.signal(Signal::STOP),
            Self::Drain => provider.signal(Signal::TERM),
            Self::Outlier => provider.delay(Duration::from_millis(300)),
            Self::Hang => provider.delay(Duration::from_secs(3600)),
            Self::BlackHole => {
                relay.ok_or("the fault has no relay")?.drop_bytes(true);
                Ok(())
            }
        }
    }

    pub(super) fn end(self, peer: FaultPeer, provider: &mut Provider, relay: Option<&Relay>) -> Result<(), Failure> {
        match self {
            Self::Kill | Self::Drain => provider.restart(peer),
            Self::Pause => provider.signal(Signal::CONT),
            Self::Outlier | Self::Hang => provider.delay(Duration::ZERO),
            Self::BlackHole => {
                relay.ok_or("the fault has no relay")?.drop_bytes(false);
                Ok(())
            }
        }
    }
}
