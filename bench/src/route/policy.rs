//! [`Policy`]: a load-balancing policy.

use rpc_client::Balance;

/// A load-balancing policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Policy {
    TwoChoices,
    LatencyAware,
    PeakEwma,
}

impl Policy {
    pub(super) const DEFAULT: Self = Self::LatencyAware;

    pub(super) fn balance(self) -> Balance {
        match self {
            Self::TwoChoices => Balance::PowerOfTwoChoices,
            Self::LatencyAware => Balance::LatencyAware,
            Self::PeakEwma => Balance::PeakEwma,
        }
    }
}
