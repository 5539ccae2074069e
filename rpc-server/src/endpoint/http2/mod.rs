//! Connections of HTTP/2, whose requests several endpoints may answer.
//!
//! The first bytes and the ALPN protocol of HTTP/2 do not tell which endpoint a caller wants. One driver therefore serves these
//! connections within the strictest limits of all endpoints, and hands each request to the endpoint that accepts it.
//!
//! | topic | module |
//! |---|---|
//! | the traits that an endpoint implements | `handler` |
//! | limits and times | `limits` |
//! | the choice of an endpoint | `handlers` |
//! | the claim of connections | `port` |
//! | the task of a connection | `serving` |
//! | the tasks of a connection | `tasks` |
//! | the frames and the progress of a connection | `frames`, `frame_watch`, `activity` |
//! | the body of a response | `answer` |

mod activity;
mod answer;
mod frame_watch;
mod frames;
mod handler;
mod handlers;
mod limits;
mod port;
mod serving;
mod tasks;

pub use answer::Http2Body;
pub use handler::{Http2Connection, Http2Handler, Http2Requests, is_grpc_content};
pub use limits::Http2Limits;
pub(crate) use port::Http2Port;
pub use tasks::Http2Task;
