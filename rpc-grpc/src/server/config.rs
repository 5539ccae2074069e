//! [`GrpcConfig`]: the limits and times of the endpoint.

use std::time::Duration;

use rpc_core::{Code, Error};

/// The limits and times of [`Grpc`](crate::Grpc). A time of `Duration::MAX` is unlimited.
///
/// If another endpoint of the server, such as that of HTTP, answers requests of HTTP/2 as well, the stricter limit of both
/// applies to their connections.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GrpcConfig {
    /// The largest message that a caller sends, in bytes; default 4 MiB, as in other implementations of gRPC.
    ///
    /// It holds before and after decompression. The endpoint rejects the call with `RESOURCE_EXHAUSTED`.
    /// `TransportConfig::max_frame` limits arguments and results in any case. A higher value lets one caller occupy more memory.
    pub max_message: usize,
    /// The number of bytes of the messages of a connection that are not passed on to the server; default 32 MiB.
    ///
    /// The endpoint rejects calls above it with `RESOURCE_EXHAUSTED`. A higher value lets one connection occupy more memory.
    pub request_memory: usize,
    /// The largest list of headers in bytes; default 16 KiB.
    ///
    /// The range is 4 KiB to 1 MiB. The endpoint answers a larger one with the HTTP status 431. A higher value lets one caller
    /// occupy more memory.
    pub max_head: usize,
    /// The maximum number of calls in progress on one connection; default 100.
    ///
    /// Callers delay further calls. A higher value lets one connection use more of the server.
    pub max_streams: u32,
    /// The maximum number of calls that a caller resets before the endpoint has accepted them; default 20.
    ///
    /// The endpoint closes the connection above it. A higher value lets a caller cause more work without waiting for answers.
    pub max_resets: usize,
    /// The maximum number of frames in succession that carry no part of a call; default 1000.
    ///
    /// These are PING, SETTINGS, PRIORITY and empty frames. Each call, each KiB of output and each 10 ms permit another one.
    /// The endpoint closes the connection above it. A higher value lets a caller cause more work without calls.
    pub max_idle_frames: u32,
    /// The time in which the headers of a call must arrive after their first byte; default 5 s.
    ///
    /// The endpoint closes the connection then. A higher value lets callers that send slowly hold connections longer.
    pub head_time: Duration,
    /// The time in which a message must arrive after its first byte, or the only message of a call; default 10 s.
    ///
    /// The time is extended by one second for each 64 KiB that arrived. The endpoint rejects the call with
    /// `DEADLINE_EXCEEDED` then. A higher value lets callers that send slowly hold memory longer.
    pub message_time: Duration,
    /// The time without a call after which the endpoint closes a connection; default 5 min.
    ///
    /// Callers receive GOAWAY and connect again for their next call. A higher value lets unused connections hold a part of
    /// `ServerConfig::max_connections` longer.
    pub idle_time: Duration,
    /// The time without a frame of the caller after which the endpoint sends a PING; default 30 s.
    ///
    /// A higher value detects a dead connection later.
    pub ping_interval: Duration,
    /// The time in which the caller must answer a PING; default 20 s.
    ///
    /// The endpoint closes the connection then. A higher value detects a dead connection later.
    pub ping_time: Duration,
    /// The time in which a blocked write must make progress by 16 KiB; default 10 s.
    ///
    /// The endpoint closes the connection then. A higher value lets callers that do not read hold memory longer.
    pub write_stall: Duration,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            max_message: 4 << 20,
            request_memory: 32 << 20,
            max_head: 16 << 10,
            max_streams: 100,
            max_resets: 20,
            max_idle_frames: 1000,
            head_time: Duration::from_secs(5),
            message_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(300),
            ping_interval: Duration::from_secs(30),
            ping_time: Duration::from_secs(20),
            write_stall: Duration::from_secs(10),
        }
    }
}

impl GrpcConfig {
    rpc_core::setters! {
        with_max_message(max_message: usize)
        with_request_memory(request_memory: usize)
        with_max_head(max_head: usize)
        with_max_streams(max_streams: u32)
        with_max_resets(max_resets: usize)
        with_max_idle_frames(max_idle_frames: u32)
        with_head_time(head_time: Duration)
        with_message_time(message_time: Duration)
        with_idle_time(idle_time: Duration)
        with_ping_interval(ping_interval: Duration)
        with_ping_time(ping_time: Duration)
        with_write_stall(write_stall: Duration)
    }

    /// Rejects a config with which the endpoint could not serve.
    pub(super) fn validate(&self) -> Result<(), Error> {
        let reject =
            |problem: String| Err(Error::not_executed(Code::InvalidArgument, format!("GrpcConfig::{problem}")));
        match self {
            Self { max_message: 0, .. } => reject("max_message must not be 0".to_owned()),
            Self { request_memory: 0, .. } => reject("request_memory must not be 0".to_owned()),
            Self { max_head, .. } if !(MIN_HEAD..=MAX_HEAD).contains(max_head) => {
                reject(format!("max_head is {max_head}, must be {MIN_HEAD} to {MAX_HEAD}"))
            }
            Self { max_streams: 0, .. } => reject("max_streams must not be 0".to_owned()),
            Self { max_idle_frames: 0, .. } => reject("max_idle_frames must not be 0".to_owned()),
            Self { head_time: Duration::ZERO, .. } => reject("head_time must not be 0".to_owned()),
            Self { message_time: Duration::ZERO, .. } => reject("message_time must not be 0".to_owned()),
            Self { idle_time: Duration::ZERO, .. } => reject("idle_time must not be 0".to_owned()),
            Self { ping_interval: Duration::ZERO, .. } => reject("ping_interval must not be 0".to_owned()),
            Self { ping_time: Duration::ZERO, .. } => reject("ping_time must not be 0".to_owned()),
            Self { write_stall: Duration::ZERO, .. } => reject("write_stall must not be 0".to_owned()),
            _ => Ok(()),
        }
    }
}

/// The headers of an ordinary call need this much.
const MIN_HEAD: usize = 4 << 10;
/// A connection may occupy this much memory before it has a call.
const MAX_HEAD: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_serve_no_call_are_rejected() {
        let default = GrpcConfig::default;
        assert!(default().validate().is_ok());
        assert!(default().with_max_head(MIN_HEAD).validate().is_ok());
        for config in [
            default().with_max_message(0),
            default().with_request_memory(0),
            default().with_max_head(MIN_HEAD - 1),
            default().with_max_head(MAX_HEAD + 1),
            default().with_max_streams(0),
            default().with_max_idle_frames(0),
            default().with_head_time(Duration::ZERO),
            default().with_message_time(Duration::ZERO),
            default().with_idle_time(Duration::ZERO),
            default().with_ping_interval(Duration::ZERO),
            default().with_ping_time(Duration::ZERO),
            default().with_write_stall(Duration::ZERO),
        ] {
            assert!(config.validate().is_err(), "{config:?}");
        }
    }
}
