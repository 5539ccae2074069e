//! One connection of a server: its frames, its calls and its end.
//!
//! | topic | module |
//! |---|---|
//! | the state that all connections share | `shared` |
//! | the driver's role: frames, pings, GOAWAY, idle time | `role` |
//! | the calls of a connection, from the frame to the handler | `calls` |
//! | the heads of recent requests | `known_heads` |
//! | calls with streams, and the frames of streams | `stream_calls` |
//! | the execution of a once call | `once_call` |
//! | a call without an answer | `pending_call` |
//! | the future of a handler | `handler` |
//! | frames that carry only a status | `status_frame` |

mod calls;
mod handler;
mod known_heads;
mod once_call;
mod pending_call;
mod role;
mod shared;
mod status_frame;
mod stream_calls;

pub(crate) use role::{Connection, STREAM_END_TIME, varied_age};
pub(crate) use shared::Shared;
pub(crate) use status_frame::{goaway, rejection};
