//! The transport that both ends of a connection share: bytes to frames and back, within limits.
//!
//! | topic | item |
//! |---|---|
//! | the task of a connection | [`Driver`] |
//! | the state machine of one end | [`Role`], [`Activity`], [`Turn`] |
//! | limits | [`TransportConfig`], [`PingWindow`] |
//! | the end of a connection | [`CloseReason`] |
//! | output queue | [`Outbox`], [`SendQueue`], [`Position`], [`PushError`], [`OutboxTurn`] |
//! | input: bytes to frames | [`FrameReader`], [`Inbound`] |
//! | answers to calls of a connection | [`WireSink`] |
//! | streams of calls | [`CallStreams`] |
//! | sources of connections | [`Connect`], [`Accept`], [`Io`], [`Tcp`] |
//! | byte counters | [`Traffic`], [`SocketWrites`] |

mod close_reason;
mod config;
mod driver;
mod extended_time;
mod flight;
mod frame_reader;
mod frame_times;
mod inbound;
mod io;
mod outbox;
mod ping_window;
mod reassembly;
mod role;
mod socket_writes;
pub(crate) mod streams;
mod tcp_io;
mod timer;
mod traffic;
mod wire_sink;
mod write_stall;

pub use close_reason::CloseReason;
pub use config::TransportConfig;
pub use io::{Accept, Connect, Io, Tcp};

// Shared by rpc-client and rpc-server, and not part of the API.
#[doc(hidden)]
pub use driver::Driver;
#[doc(hidden)]
pub use frame_reader::FrameReader;
#[doc(hidden)]
pub use inbound::Inbound;
#[doc(hidden)]
pub use outbox::{Outbox, OutboxTurn, Position, Priority, PushError, SendQueue};
#[doc(hidden)]
pub use ping_window::PingWindow;
#[doc(hidden)]
pub use role::{Activity, Role, Turn};
#[doc(hidden)]
pub use socket_writes::{CountedIo, SocketWrites};
#[doc(hidden)]
pub use streams::{
    CallStreams, Closed, Credit, Handled, ItemQueue, ItemReader, ItemSender, QueueEnd, SendEnd, StreamMemory,
    StreamReader, WireStreams,
};
#[doc(hidden)]
pub use traffic::Traffic;
#[doc(hidden)]
pub use wire_sink::WireSink;
