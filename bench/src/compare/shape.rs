//! [`Shape`]: what kind of job the programs are compared in.

use std::{fmt, str::FromStr, time::Duration};

use crate::peers::Peer;

/// What kind of job the programs are compared in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A number of calls are kept in flight.
    Closed { conns: usize, inflight: usize, payload: usize },
    /// A few small calls, while others carry much over the same connection.
    Beside { bulk: usize },
    /// Calls begin at half of the program's own peak rate.
    Half,
    /// Calls begin at half of the lowest peak rate of all.
    Same,
    /// Connections on which nothing happens.
    Idle { conns: usize },
}

impl Shape {
    /// The jobs of docs/PERFORMANCE.md.
    pub(crate) const USUAL: [Self; 9] = [
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
    /// The job whose rate is a program's peak.
    pub(crate) const PEAK: Self = Self::Closed { conns: 1, inflight: 512, payload: 32 };

    /// Whether a call begins when another ends.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Beside { .. })
    }

    /// Whether it makes sense for a program.
    pub(crate) fn suits(self, peer: Peer) -> bool {
        peer.calls() || !matches!(self, Self::Half | Self::Same | Self::Beside { .. })
    }

    /// A client's command line.
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

impl fmt::Display for Shape {
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

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let positive = |part: &str| part.parse().ok().filter(|number| *number > 0);
        let shape = match parts[..] {
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
        shape.ok_or_else(|| {
            "a job is CONNECTIONS/IN-FLIGHT/PAYLOAD, beside/CALLERS, half, same, idle or idle/CONNECTIONS".to_owned()
        })
    }
}

const IDLE: usize = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for shape in Shape::USUAL {
            assert_eq!(shape.to_string().parse(), Ok(shape));
        }
        for bad in ["", "1", "1/2", "0/1/1", "1/0/1", "1/1/-1", "idle/0", "beside/0", "1/1/1/1"] {
            assert!(bad.parse::<Shape>().is_err(), "{bad}");
        }
    }
}
