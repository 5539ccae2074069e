//! HTTP/JSON for msnb: [`Http`] lets callers without msnb call the services of a server, and [`HttpCaller`] calls JSON services
//! of other frameworks.
//!
//! | topic | item |
//! |---|---|
//! | HTTP/1.1 and HTTP/2 on the port of a server | [`Http`], [`HttpConfig`] |
//! | clients of JSON services that a registry lists | [`HttpCaller`], [`HttpCallerConfig`] |
//!
//! docs/HTTP.md specifies paths, arguments, statuses and headers.
//!
//! # Examples
//!
//! ```
//! use rpc_core::rpc_service;
//! use rpc_http::Http;
//! use rpc_server::Server;
//!
//! #[rpc_service(name = "demo.Greeter", version = "1.0")]
//! trait Greeter {
//!     #[rpc(http = "GET /greetings/{name}")]
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
//! let server = Server::builder().service(GreeterServer::new(MyGreeter)).endpoint(Http::new()).bind("127.0.0.1:0").await?;
//! // curl http://127.0.0.1:PORT/greetings/Bo
//! // curl http://127.0.0.1:PORT/demo.Greeter/hello -d '{"name":"Bo"}' -H 'Content-Type: application/json'
//! # Ok(()) }
//! ```

#[cfg(feature = "client")]
mod client;
mod headers;
mod problem;
#[cfg(feature = "server")]
mod server;
mod status;

#[cfg(feature = "client")]
pub use client::{HttpCall, HttpCaller, HttpCallerConfig};
#[cfg(feature = "server")]
pub use server::{Http, HttpConfig};
