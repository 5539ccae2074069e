//! [`TransportConfig`]: the limits of one connection's transport.

use std::{fmt, time::Duration};

use super::{Credit, FrameReader};
use crate::{Code, Error};

/// The limits of one connection's transport. A time of `Duration::MAX` is unlimited.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TransportConfig {
    /// The longest frame that is sent or accepted, in bytes, including the header; default 8 MiB.
    ///
    /// The range is 64 KiB to 128 MiB. A higher value lets one peer occupy more memory.
    pub max_frame: u32,
    /// The number of bytes waiting to be written at which the outbox is full; default 1 MiB.
    ///
    /// A higher value lets a peer that reads slowly occupy more memory.
    pub outbox: usize,
    /// The time in which a frame must arrive after its first byte; default 5 s.
    ///
    /// The time is extended by one second for each 64 KiB of the frame. A higher value lets a peer that sends slowly
    /// hold its connection longer.
    pub frame_time: Duration,
    /// The time in which a blocked write must make progress by `min_write`; default 10 s.
    ///
    /// A higher value delays the detection of a peer that does not read.
    pub write_stall: Duration,
    /// The number of bytes that a peer must accept within `write_stall` while bytes wait; default 16 KiB.
    ///
    /// With TLS, these are encrypted bytes that the socket has accepted.
    ///
    /// If fewer bytes wait, the peer must accept all of them. The range is 1 byte to 1 MiB. A higher value closes the
    /// connections of slower peers; a lower value lets a peer that reads slowly hold memory longer.
    pub min_write: usize,
    /// The number of bytes of a stream that may wait to be read; default 256 KiB.
    ///
    /// A stream starts with 64 KiB and grows when its reader reads. The range is 64 KiB to 16 MiB. An item that is longer
    /// than the rest of the window is received nevertheless. A higher value lets streams over long distances transfer
    /// more per second, and a reader that stops hold more memory.
    pub stream_window: u32,
    /// The number of bytes of all streams of a connection that may wait to be read; default 128 MiB.
    ///
    /// The minimum is 64 KiB. Each stream takes 64 KiB, and its window grows to `stream_window` while less than half of the
    /// memory is taken. A stream for which less than 64 KiB are free is rejected with `ResourceExhausted`. A higher value
    /// lets one peer occupy more memory.
    pub stream_memory: usize,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            max_frame: FrameReader::MAX_FRAME,
            outbox: 1 << 20,
            frame_time: Duration::from_secs(5),
            write_stall: Duration::from_secs(10),
            min_write: 16 << 10,
            stream_window: 256 << 10,
            stream_memory: 128 << 20,
        }
    }
}

impl TransportConfig {
    /// Rejects values with which no frame could pass.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, naming the field, its value and its limit.
    pub fn validate(&self) -> Result<(), Error> {
        let reject = |problem: fmt::Arguments<'_>| {
            Err(Error::not_executed(Code::InvalidArgument, format!("TransportConfig::{problem}")))
        };
        match self {
            Self { max_frame, .. } if *max_frame < MIN_MAX_FRAME => {
                reject(format_args!("max_frame is {max_frame}, minimum is {MIN_MAX_FRAME}"))
            }
            Self { max_frame, .. } if *max_frame > MAX_MAX_FRAME => {
                reject(format_args!("max_frame is {max_frame}, maximum is {MAX_MAX_FRAME}"))
            }
            Self { outbox: 0, .. } => reject(format_args!("outbox must not be 0")),
            Self { frame_time: Duration::ZERO, .. } => reject(format_args!("frame_time must not be 0")),
            Self { write_stall: Duration::ZERO, .. } => reject(format_args!("write_stall must not be 0")),
            Self { min_write: 0, .. } => reject(format_args!("min_write must not be 0")),
            Self { min_write, .. } if *min_write > MAX_MIN_WRITE => {
                reject(format_args!("min_write is {min_write}, maximum is {MAX_MIN_WRITE}"))
            }
            Self { stream_window, .. } if !(Credit::INITIAL..=MAX_STREAM_WINDOW).contains(stream_window) => {
                let range = format!("{} to {MAX_STREAM_WINDOW}", Credit::INITIAL);
                reject(format_args!("stream_window is {stream_window}, must be {range}"))
            }
            Self { stream_memory, .. } if *stream_memory < Credit::INITIAL as usize => {
                reject(format_args!("stream_memory is {stream_memory}, minimum is {}", Credit::INITIAL))
            }
            _ => Ok(()),
        }
    }
}

/// A frame must have capacity for any head.
const MIN_MAX_FRAME: u32 = 64 << 10;
/// 16 times the limit must fit into the 32-bit length of a header.
///
/// Overlong frames are skipped up to that length.
const MAX_MAX_FRAME: u32 = 128 << 20;
/// A peer that reads 100 KiB each second satisfies it in the default time.
const MAX_MIN_WRITE: usize = 1 << 20;

/// A reader that stops holds at most this much memory.
const MAX_STREAM_WINDOW: u32 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_frame_is_limited_at_both_ends() {
        let with = |max_frame| TransportConfig { max_frame, ..TransportConfig::default() }.validate();
        assert!(with(MIN_MAX_FRAME).is_ok() && with(MAX_MAX_FRAME).is_ok());
        let error = with(MIN_MAX_FRAME - 1).unwrap_err();
        assert_eq!(error.message(), "TransportConfig::max_frame is 65535, minimum is 65536");
        assert!(with(MAX_MAX_FRAME + 1).is_err());
    }

    #[test]
    fn zero_limits_are_rejected() {
        let default = TransportConfig::default;
        for config in [
            TransportConfig { outbox: 0, ..default() },
            TransportConfig { frame_time: Duration::ZERO, ..default() },
            TransportConfig { write_stall: Duration::ZERO, ..default() },
            TransportConfig { min_write: 0, ..default() },
            TransportConfig { min_write: MAX_MIN_WRITE + 1, ..default() },
            TransportConfig { stream_window: Credit::INITIAL - 1, ..default() },
            TransportConfig { stream_window: MAX_STREAM_WINDOW + 1, ..default() },
            TransportConfig { stream_memory: 0, ..default() },
        ] {
            assert!(config.validate().is_err(), "{config:?}");
        }
    }
}
