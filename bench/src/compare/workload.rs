//! [`Workload`]: the workloads of a comparison.

use std::{fmt, str::FromStr, time::Duration};

use crate::peers::Peer;

/// A workload of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// A closed loop: a constant number of calls in flight.
    Closed { conns: usize, inflight: usize, payload: usize },
    /// Small calls beside large calls over the same connection.
    Beside { bulk: usize },
    /// An open loop at half of the peer's own peak rate.
    Half,
    /// An open loop at half of the lowest peak rate of all peers.
    Same,
    /// Idle connections.
    Idle { conns: usize },
}

impl Workload {
    /// The workloads of docs/PERFORMANCE.md.
    pub(crate) const DEFAULT: [Self; 9] = [
        Self::PEAK,
        Self::Closed { conns: 1, inflight: 64, payload: 32 },
        Self::Closed { conns: 1, inflight: 1, payload: 32 },
        Self::Closed { conns: 16, inflight: 512, payload: 1 << 10 },
        Self::Closed { conns: 4, inflight: 64, payload: 64 << 10 },
        Self::Beside { bulk: 4 },
        Self::Half,
        Self::Same,
        Self::Idle { conns: IDLE },
    ];
    /// The workload that defines the peak rate of a peer.
    pub(crate) const PEAK: Self = Self::Closed { conns: 1, inflight: 512, payload: 32 };

    /// Returns whether the workload is a closed loop.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Beside { .. })
    }

    /// Returns whether the workload is applicable to a peer.
    pub(crate) fn suits(self, peer: Peer) -> bool {
        peer.calls() || !matches!(self, Self::Half | Self::Same | Self::Beside { .. })
    }

    /// Returns the title of the workload in tables and charts.
    pub(crate) fn title(self) -> String {
        match self {
            Self::Closed { conns, inflight, payload } => {
                format!(
                    "{conns} connection{}, {inflight} in flight, {}",
                    if conns == 1 { "" } else { "s" },
                    bytes(payload)
                )
            }
            Self::Beside { bulk } => format!("1 connection, 8 in flight, 32 B, beside {bulk} callers with 1 MiB each"),
            Self::Half => "open loop at half of each peer's own peak rate".to_owned(),
            Self::Same => "open loop at half of the lowest peak rate".to_owned(),
            Self::Idle { conns } => format!("{conns} idle connections"),
        }
    }

    /// Returns the command line arguments of a client.
    pub(crate) fn arguments(self, seconds: Duration, rate: Option<usize>) -> Vec<String> {
        let (conns, inflight, payload) = match self {
            Self::Closed { conns, inflight, payload } => (conns, inflight, payload),
            Self::Beside { .. } => (1, 8, 32),
            Self::Half | Self::Same | Self::Idle { .. } => (1, 512, 32),
        };
        let seconds = seconds.as_secs_f64();
        let mut arguments = vec![
            format!("--conns={conns}"),
            format!("--inflight={inflight}"),
            format!("--payload={payload}"),
            format!("--seconds={seconds}"),
        ];
        if let Self::Beside { bulk } = self {
            arguments.push(format!("--bulk={bulk}"));
        }
        arguments.extend(rate.map(|rate| format!("--rate={rate}")));
        arguments
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { conns, inflight, payload } => write!(f, "{conns}/{inflight}/{payload}"),
            Self::Beside { bulk } => write!(f, "beside/{bulk}"),
            Self::Half => f.write_str("half"),
            Self::Same => f.write_str("same"),
            Self::Idle { conns } => write!(f, "idle/{conns}"),
        }
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let positive = |part: &str| part.parse().ok().filter(|number| *number > 0);
        let workload = match parts[..] {
            ["beside", bulk] => positive(bulk).map(|bulk| Self::Beside { bulk }),
            ["half"] => Some(Self::Half),
            ["same"] => Some(Self::Same),
            ["idle"] => Some(Self::Idle { conns: IDLE }),
            ["idle", conns] => positive(conns).map(|conns| Self::Idle { conns }),
            [conns, inflight, payload] => (|| {
                let (conns, inflight, payload) = (positive(conns)?, positive(inflight)?, payload.parse().ok()?);
                Some(Self::Closed { conns, inflight, payload })
            })(),
            _ => None,
        };
        workload.ok_or_else(|| {
            "expected CONNECTIONS/IN-FLIGHT/PAYLOAD, beside/CALLERS, half, same, idle or idle/CONNECTIONS".to_owned()
        })
    }
}

fn bytes(count: usize) -> String {
    if count >= 1024 && count.is_multiple_of(1024) { format!("{} KiB", count / 1024) } else { format!("{count} B") }
}

/// The default number of idle connections.
const IDLE: usize = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_inverts_display() {
        for workload in Workload::DEFAULT {
            assert_eq!(workload.to_string().parse(), Ok(workload));
        }
        for bad in ["", "1", "1/2", "0/1/1", "1/0/1", "1/1/-1", "idle/0", "beside/0", "1/1/1/1"] {
            assert!(bad.parse::<Workload>().is_err(), "{bad}");
        }
    }
}
