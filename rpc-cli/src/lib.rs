//! Command-line options, logging, signals and errors of programs that use msnb.
//!
//! | topic | item |
//! |---|---|
//! | options of clap, each also an environment variable | [`RegistryArgs`], [`ServerSecurity`], [`ClientSecurity`] |
//! | logging to stderr | [`log_to_stderr`] |
//! | Ctrl-C and SIGTERM | [`shutdown_signal`] |
//! | the error of `main`, printed with its causes | [`Failure`] |
//!
//! This is a crate of its own, because libraries and contracts need neither clap nor signals.
//!
//! # Examples
//!
//! A server that also calls other servers:
//!
//! ```no_run
//! use clap::Parser;
//! use rpc_cli::{ClientSecurity, Failure, RegistryArgs, ServerSecurity, log_to_stderr, shutdown_signal};
//! use rpc_client::Client;
//! use rpc_core::rpc_service;
//! use rpc_server::Server;
//!
//! #[rpc_service(name = "demo.Greeter", version = "1.0")]
//! trait Greeter {
//!     async fn hello(&self, name: String) -> String;
//! }
//! # struct MyGreeter(Client);
//! # impl Greeter for MyGreeter {
//! #     async fn hello(&self, name: String) -> String { format!("Hello {name}") }
//! # }
//!
//! #[derive(Parser)]
//! struct Args {
//!     #[command(flatten)]
//!     registry: RegistryArgs,
//!     #[command(flatten)]
//!     server: ServerSecurity,
//!     #[command(flatten)]
//!     client: ClientSecurity,
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Failure> {
//!     let args = Args::parse();
//!     log_to_stderr("info");
//!     let registry = args.registry.connect().await?;
//!     let client = args.client.apply(Client::builder().registry(registry.clone()))?.build()?;
//!     let server = Server::builder().registry(registry).service(GreeterServer::new(MyGreeter(client)));
//!     let server = args.server.apply(server).bind("127.0.0.1:0").await?;
//!     server.run_until(shutdown_signal()).await?;
//!     Ok(())
//! }
//! ```

mod failure;
mod log;
mod registry;
mod security;
mod signal;

pub use failure::Failure;
pub use log::log_to_stderr;
pub use registry::RegistryArgs;
pub use security::{ClientSecurity, ServerSecurity};
pub use signal::shutdown_signal;
