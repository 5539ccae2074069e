//! [`Http2Limits`]: the limits and times of connections of HTTP/2.

use std::time::Duration;

/// The limits and times of connections of HTTP/2. A time of `Duration::MAX` is unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http2Limits {
    /// The largest list of headers in bytes.
    pub max_head: usize,
    /// The maximum number of requests in progress on one connection.
    pub max_streams: u32,
    /// The maximum number of requests that a caller resets before the endpoint has accepted them.
    pub max_resets: usize,
    /// The maximum number of frames in succession that carry no part of a request.
    pub max_idle_frames: u32,
    /// The time in which the headers of a request must arrive after their first byte.
    pub head_time: Duration,
    /// The time without a request after which the connection is closed.
    pub idle_time: Duration,
    /// The time without a frame of the caller after which the endpoint sends a PING.
    pub ping_interval: Duration,
    /// The time in which the caller must answer a PING.
    pub ping_time: Duration,
    /// The time in which a blocked write or a response must make progress.
    pub write_stall: Duration,
}

impl Http2Limits {
    /// Returns the stricter limit of both in each field.
    pub(super) fn strictest(self, other: &Self) -> Self {
        Self {
            max_head: self.max_head.min(other.max_head),
            max_streams: self.max_streams.min(other.max_streams),
            max_resets: self.max_resets.min(other.max_resets),
            max_idle_frames: self.max_idle_frames.min(other.max_idle_frames),
            head_time: self.head_time.min(other.head_time),
            idle_time: self.idle_time.min(other.idle_time),
            ping_interval: self.ping_interval.min(other.ping_interval),
            ping_time: self.ping_time.min(other.ping_time),
            write_stall: self.write_stall.min(other.write_stall),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strictest_limit_of_each_field_applies() {
        let of = |number: usize, time: u64| {
            let (count, time) = (number as u32, Duration::from_secs(time));
            Http2Limits {
                max_head: number,
                max_streams: count,
                max_resets: number,
                max_idle_frames: count,
                head_time: time,
                idle_time: time,
                ping_interval: time,
                ping_time: time,
                write_stall: time,
            }
        };
        assert_eq!(of(1, 9).strictest(&of(5, 2)), of(1, 2));
        assert_eq!(of(5, 2).strictest(&of(1, 9)), of(1, 2));
    }
}
