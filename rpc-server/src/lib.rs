//! The server side of msnb: accepts connections, dispatches calls to services, registers and drains.
//!
//! | topic | item |
//! |---|---|
//! | building, running and ending a server | [`ServerBuilder`], [`Server`] |
//! | limits and times | [`ServerConfig`] |
//! | state and counts | [`ServerHandle`], [`ServerState`], [`ServerCounts`] |
//! | once calls in a cluster | [`OnceStore`], [`Claim`] |
//! | other protocols on the same port | [`Endpoint`], [`EndpointHandler`], [`EndpointConnection`] |
//! | requests of HTTP/2, with the feature `http2` | `Http2Handler`, `Http2Connection` |
//!
//! The modules follow the path of a call: `listener` accepts a connection and runs its handshake, `connection` handles
//! its frames, `call` finds the method and its capacity. `endpoint` connects other protocols to `connection`. `lifecycle` builds, registers and drains the server. `bench`
//! exposes private structures to benchmarks.
//!
//! Several services share a port. The connection polls a handler once when it has read the request, and spawns a task
//! only for a handler that is still pending then. Computation before the first await therefore delays the other calls
//! of the connection: long computations belong in `tokio::task::spawn_blocking`. A handler is dropped when its caller
//! cancels the call or its deadline passes; tasks that the handler has spawned observe this by
//! `rpc_core::Context::cancelled`.
//!
//! A layer wraps all handlers of a server, to reject, measure or trace calls: [`ServerBuilder::layer`]. The crate
//! rpc-layers has several.
//!
//! # Panics
//!
//! A handler that panics fails its own call with `Internal`, unless the program is built with `panic = "abort"`.
//!
//! # Examples
//!
//! ```
//! use rpc_core::rpc_service;
//! use rpc_server::{Server, ServerConfig};
//!
//! #[rpc_service(name = "demo.Greeter", version = "1.0")]
//! trait Greeter {
//!     async fn hello(&self, name: String) -> String;
//! }
//!
//! struct MyGreeter;
//!
//! impl Greeter for MyGreeter {
//!     async fn hello(&self, name: String) -> String {
//!         format!("Hello {name}")
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), rpc_core::Error> {
//! let server = Server::builder()
//!     .service(GreeterServer::new(MyGreeter)) // and `.registry(…)`, for clients that find the service by name
//!     .config(ServerConfig::default().with_max_connections(100))
//!     .bind("127.0.0.1:0")
//!     .await?;
//! println!("listening on {}", server.local_address());
//! # let stopped = std::future::ready(());
//! // The server drains when `stopped` resolves: any future, such as a signal or a channel.
//! server.run_until(stopped).await
//! # }
//! ```
//!
//! A server that requires a token and lets one caller call more than the others. With `.tls(…)` as well, no one on the
//! network path can read or change the data; docs/SECURITY.md compares the two protections.
//!
//! ```
//! # use rpc_core::{Code, Tokens, rpc_service};
//! # use rpc_server::Server;
//! # #[rpc_service(name = "demo.Greeter", version = "1.0")]
//! # trait Greeter {
//! #     async fn hello(&self, name: String) -> String;
//! # }
//! # struct MyGreeter;
//! # impl Greeter for MyGreeter {
//! #     async fn hello(&self, name: String) -> String {
//! #         format!("Hello {name}")
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), rpc_core::Error> {
//! let tokens = Tokens::new().with("ann", "a long secret of ann's")?.with("bob", "a long secret of bob's")?;
//! let server = Server::builder()
//!     .service(GreeterServer::new(MyGreeter))
//!     .require_token(tokens) // or `.with_file(path)`, which is reloaded when it changes
//!     .allow("demo.Greeter:1.0/hello", ["ann"]);
//! # server.bind("127.0.0.1:0").await?;
//!
//! // A rule for an unknown method is an error.
//! # let server = Server::builder().service(GreeterServer::new(MyGreeter)).require_token(Tokens::new().with("ann", "a long secret of ann's")?);
//! let error = server.allow("demo.Greeter:1.0/goodbye", ["ann"]).bind("127.0.0.1:0").await.unwrap_err();
//! assert_eq!(error.code(), Code::InvalidArgument);
//! # Ok(()) }
//! ```

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod call;
mod config;
mod connection;
mod counters;
mod credentials;
mod endpoint;
mod lifecycle;
mod listener;
mod peer_warnings;

pub use call::once::{Claim, OnceStore};
pub use config::ServerConfig;
pub use counters::ServerState;
pub use endpoint::{
    Endpoint, EndpointConnection, EndpointEntry, EndpointHandler, EndpointIo, EndpointItemSender, EndpointItems,
    EndpointReply, EndpointRequest, EndpointServices, Unread, Watch, Watched,
};
#[cfg(feature = "http2")]
pub use endpoint::{Http2Body, Http2Connection, Http2Handler, Http2Limits, Http2Requests, Http2Task, is_grpc_content};
#[cfg(feature = "http-headers")]
pub use endpoint::{MAX_CALLER_KEY, TokenRejection, caller_key, grpc_timeout};
pub use lifecycle::{Server, ServerBuilder, ServerCounts, ServerHandle};
