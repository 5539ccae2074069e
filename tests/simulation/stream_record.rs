//! The streams of simulated calls: what both ends do with them, and what happened.

use std::time::Duration;

use rpc_core::Code;
use serde::{Deserialize, Serialize};

/// One of the two streams that a call can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    /// From the caller to the callee.
    Up,
    /// From the callee to the caller.
    Down,
}

/// An item of a stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Item {
    /// Number of the call.
    pub(crate) nonce: u64,
    /// Number of the item, from 0.
    pub(crate) number: u32,
    /// Bytes, each of which is the last byte of the nonce.
    pub(crate) padding: Vec<u8>,
}

/// The items that the creator of a stream sends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SourcePlan {
    /// Number of items.
    pub(crate) count: u32,
    /// Number of bytes in the padding of each item.
    pub(crate) length: usize,
    /// Time between two items.
    pub(crate) pause: Duration,
    /// End of the stream behind the last item.
    pub(crate) end: SourceEnd,
}

/// How the creator of a stream ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SourceEnd {
    /// Regularly.
    Regular,
    /// With its own error.
    Fails,
    /// Not at all.
    Pends,
    /// By a panic.
    Panics,
}

/// How the reader of a stream reads it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ReaderPlan {
    /// Time between two items.
    pub(crate) pause: Duration,
    /// Number of items after which the reader drops the stream.
    pub(crate) stops_after: Option<u32>,
}

/// The arguments of a call with streams.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StreamArguments {
    /// Unique number of the call.
    pub(crate) nonce: u64,
    /// Whether the handler returns the service's own error instead of a stream.
    pub(crate) fails: bool,
    /// The stream that the handler returns, if the method returns one.
    pub(crate) source: SourcePlan,
    /// Whether the returned stream follows the caller's.
    pub(crate) follows: bool,
    /// How the handler reads the caller's stream, if it does not follow it.
    pub(crate) reader: ReaderPlan,
    /// Number of bytes in the padding of the caller's items.
    pub(crate) length: usize,
}

/// The plans of both ends for the streams of a call.
#[derive(Debug, Clone)]
pub(crate) struct StreamCall {
    /// Arguments of the call, with the plan of the callee.
    pub(crate) arguments: StreamArguments,
    /// The stream of the caller.
    pub(crate) up: SourcePlan,
    /// How the caller reads the stream of the callee.
    pub(crate) reader: ReaderPlan,
}

/// A stream of a call.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamRecord {
    /// Number of items that were taken from the source.
    pub(crate) sent: u32,
    /// The end that the source has reached.
    pub(crate) source_end: Option<SourceEnd>,
    /// Whether the source exists.
    pub(crate) has_source: bool,
    /// Number of items that were read.
    pub(crate) read: u32,
    /// Time and kind of the end for the reader.
    pub(crate) read_end: Option<(Duration, ReadEnd)>,
    /// Whether the reader exists.
    pub(crate) has_reader: bool,
}

/// The end of a stream for its reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadEnd {
    /// The creator has ended the stream regularly.
    Complete,
    /// The creator has ended the stream with the service's own error.
    Service,
    /// The stream ended early.
    Failed { code: Code, text: String },
    /// The reader was dropped.
    Dropped,
}
