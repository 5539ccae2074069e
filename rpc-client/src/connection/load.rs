//! [`Load`]: the load of a provider at the moment of a pick.

/// The load of a usable provider, by the calls of this client, at the moment of a pick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// The calls in flight, and the open streams.
    pub(crate) in_flight: u32,
    /// The peak EWMA of the latency in nanoseconds; 0 before the first answer.
    pub(crate) latency: u64,
    /// The logarithm of the typical latency; see [`Latency::typical`](super::latency::Latency::typical).
    pub(crate) typical: u32,
}
