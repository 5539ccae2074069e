//! [`Axis`]: the dimensions of `msnb-bench grow` and their values.

/// The dimension that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Axis {
    /// Connections, with 512 calls in flight or, if more, one per connection.
    Connections,
    /// Calls in flight on one connection.
    InFlight,
    /// The payload length, with 8 calls in flight on one connection.
    Payload,
    /// Services of a server, called in rotation.
    Services,
    /// Methods of a service, called in rotation.
    Methods,
    /// Providers of a service, with 512 calls in flight.
    Providers,
}

/// The parameters of one measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) conns: usize,
    pub(crate) inflight: usize,
    pub(crate) payload: usize,
    pub(crate) services: usize,
    pub(crate) methods: usize,
    pub(crate) providers: usize,
}

impl Axis {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::InFlight => "calls in flight",
            Self::Payload => "payload in bytes",
            Self::Services => "services",
            Self::Methods => "methods",
            Self::Providers => "providers",
        }
    }

    pub(crate) fn values(self) -> &'static [usize] {
        match self {
            Self::Connections => &[1, 10, 100, 1_000, 10_000],
            Self::InFlight => &[1, 8, 64, 512, 1_024, 4_096, 16_384, 65_536],
            // The last value is the longest payload that fits into a frame of 8 MiB with its head.
            Self::Payload => &[0, 64, 1 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, (8 << 20) - 1_024],
            Self::Services | Self::Methods => &[1, 10, 100, 1_000, 10_000],
            Self::Providers => &[1, 10, 100, 1_000],
        }
    }

    /// Returns the parameters of the measurement of `value`.
    pub(crate) fn point(self, value: usize) -> Point {
        let default = Point { conns: 1, inflight: 512, payload: 32, services: 1, methods: 1, providers: 1 };
        match self {
            Self::Connections => Point { conns: value, inflight: value.max(default.inflight), ..default },
            Self::InFlight => Point { inflight: value, ..default },
            Self::Payload => Point { payload: value, inflight: 8, ..default },
            Self::Services => Point { services: value, ..default },
            Self::Methods => Point { methods: value, ..default },
            Self::Providers => Point { providers: value, ..default },
        }
    }
}
