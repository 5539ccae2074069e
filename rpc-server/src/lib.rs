//! The server side of msnb: it accepts connections, dispatches their calls to services, announces itself in a registry, and
//! leaves in order.
//!
//! | question | file |
//! |---|---|
//! | how is a server made, run and ended? | `server.rs` |
//! | which numbers can be changed? | `config.rs` |
//! | who may connect? | `acceptor.rs` |
//! | what must they prove first? | `entrance.rs` |
//! | what happens to a frame? | `connection.rs` |
//! | which calls run on a connection? | `running.rs` |
//! | how many run in all, and what waits? | `load.rs` |
//! | what is counted, and who is told? | `counters.rs` |
//! | how does a call run once? | `once.rs` |
//! | which service is a route, and who may call it? | `dispatcher.rs` |
//! | how is it found? | `registration.rs` |
//!
//! Several services share a port. A handler is first polled where its frame is read, and gets a task of its own when it has to
//! wait: what computes for long before its first await belongs into `tokio::task::spawn_blocking`, else it holds up the other
//! calls of its connection. It is dropped when its caller gives up or its deadline passes; what it spawned learns of that by
//! `rpc_core::Context::cancelled`.
//!
//! What stands between the server and all its handlers, to refuse, to measure or to trace, is a layer:
//! [`ServerBuilder::layer`]. The crate rpc-layers has some.
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
//!     .service(GreeterServer::new(MyGreeter)) // and `.registry(…)`, to be found by name
//!     .config(ServerConfig::default().with_max_connections(100))
//!     .bind("127.0.0.1:0")
//!     .await?;
//! println!("listening on {}", server.local_address());
//! # let stopped = std::future::ready(());
//! // `stopped` is any future: a signal, a channel. Then the server drains.
//! server.run_until(stopped).await
//! # }
//! ```
//!
//! A server that takes only callers with a token, and lets one of them call more than the others. With `.tls(…)` besides, nobody
//! on the way can read or change anything: docs/SECURITY.md says what each is worth.
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
//!     .require_token(tokens) // or `.with_file(path)`, which is read anew when it changes
//!     .allow("demo.Greeter:1.0/hello", ["ann"]);
//! # server.bind("127.0.0.1:0").await?;
//!
//! // A rule for what is not served is a mistake.
//! # let server = Server::builder().service(GreeterServer::new(MyGreeter)).require_token(Tokens::new().with("ann", "a long secret of ann's")?);
//! let error = server.allow("demo.Greeter:1.0/goodbye", ["ann"]).bind("127.0.0.1:0").await.unwrap_err();
//! assert_eq!(error.code(), Code::InvalidArgument);
//! # Ok(()) }
//! ```

mod acceptor;
mod config;
mod connection;
mod counters;
mod dispatcher;
mod entrance;
mod load;
mod once;
mod registration;
mod running;
mod server;

pub use config::ServerConfig;
pub use counters::{ServerCounts, ServerHandle, ServerState};
pub use once::{Claim, OnceStore};
pub use server::{Server, ServerBuilder};
