//! Where msnb services find each other.
//!
//! [`connect`] turns a URL into a [`Backend`]: a provider announces itself through its [`Registry`] half, a consumer finds
//! providers through its [`Discovery`] half.
//!
//! | URL | type | for |
//! |---|---|---|
//! | `local:`, `local:/dir` | [`Local`] | one machine, no server to start |
//! | `nacos://host:8848,host2:8848?namespace=&group=&cluster=&username=&password=&grpc_port=` | [`Nacos`] | production |
//! | `fixed:host:port,host:port` | [`Fixed`] | no registry |
//! | `memory:`, `memory:name` | [`Memory`] | inside one process, for tests |
//!
//! Which file answers which question:
//!
//! | file | question |
//! |---|---|
//! | `connect.rs` | which backend does a URL mean? |
//! | `fixed.rs`, `memory.rs` | the two that need nothing |
//! | `local/` | how do the processes of one machine see each other, and who died? |
//! | `nacos/` | how is Nacos spoken to, and what does it do wrong that is mended here? |
//! | `watches.rs` | how do many receivers share one watch, and when does it end? |
//!
//! # Examples
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), rpc_core::Error> {
//! use rpc_core::{Discovery as _, Instance, Registry as _, ServiceId};
//!
//! let registry = rpc_registry::connect("memory:example").await?;
//! let greeter = ServiceId::from_static("demo.Greeter", "1.0");
//! registry.register(&greeter, Instance::new(([127, 0, 0, 1], 7788).into())).await?;
//!
//! let addresses = registry.watch(&greeter);
//! assert_eq!(addresses.borrow().as_ref().map(|list| list.len()), Some(1));
//! # Ok(()) }
//! ```
//!
//! [`Registry`]: rpc_core::Registry
//! [`Discovery`]: rpc_core::Discovery

#![forbid(unsafe_code)]

mod address;
mod connect;
mod fixed;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod local;
mod memory;
#[cfg(feature = "nacos")]
mod nacos;
mod throttle;
mod user_directory;
mod watches;

pub use connect::{Backend, connect};
pub use fixed::Fixed;
pub use local::Local;
pub use memory::Memory;
#[cfg(feature = "nacos")]
pub use nacos::Nacos;
