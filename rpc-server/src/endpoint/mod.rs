//! Endpoints: other protocols on the port of a server, such as HTTP.
//!
//! An endpoint claims accepted connections by their first bytes or by ALPN, and calls the services of the server through a
//! [`EndpointConnection`]. Each caller of a connection has a *session*: an msnb connection in memory, whose callee is the same
//! state machine as that of a socket. Limits, access rules, layers, once calls, streams, draining and counters therefore apply
//! to these calls without further code.
//!
//! | topic | module |
//! |---|---|
//! | the traits that an endpoint implements | `handler` |
//! | a claimed connection | `connection` |
//! | the task of a claimed connection | `serving` |
//! | the callers of a connection, and their sessions | `calls` |
//! | a call and its answer | `request` |
//! | the token, timeout and key in HTTP headers | `caller_headers` |
//! | requests of HTTP/2 for several endpoints | `http2` |
//! | a peer that does not read | `blocked_write` |
//! | items that the endpoint sends in a call | `items` |
//! | a value that is encoded already | `encoded` |
//! | the stream of a connection, with the bytes that were read to detect its protocol | `prefixed` |
//! | a session | `session` |
//! | the stream of a connection, whose reads and writes the endpoint watches | `watched` |

mod blocked_write;
#[cfg(feature = "http-headers")]
mod caller_headers;
mod calls;
mod connection;
mod encoded;
mod handler;
#[cfg(feature = "http2")]
mod http2;
mod items;
mod prefixed;
mod request;
mod serving;
mod session;
mod watched;

#[cfg(feature = "http-headers")]
pub use caller_headers::{MAX_CALLER_KEY, TokenRejection, caller_key, grpc_timeout};
pub use connection::{EndpointConnection, EndpointIo};
pub use handler::{Endpoint, EndpointEntry, EndpointHandler, EndpointServices};
#[cfg(feature = "http2")]
pub(crate) use http2::Http2Port;
#[cfg(feature = "http2")]
pub use http2::{Http2Body, Http2Connection, Http2Handler, Http2Limits, Http2Requests, Http2Task, is_grpc_content};
pub use items::{EndpointItemSender, EndpointItems};
pub(crate) use prefixed::Prefixed;
pub use request::{EndpointReply, EndpointRequest};
pub(crate) use serving::serve;
pub use session::Unread;
pub use watched::{Watch, Watched};
