//! Shared code of the examples: two service contracts with implementations, command-line options, logging and shutdown.
//!
//! | topic | module |
//! |---|---|
//! | service contracts | [`Greeter`], [`Goods`] |
//! | serving a contract | `provider/main.rs` |
//! | calling a contract | `consumer/main.rs` |
//! | TLS and tokens | [`ServerSecurity`], [`ClientSecurity`]; `certificates/main.rs` creates test certificates |
//! | providers and a consumer in one process | `quickstart/main.rs` |
//! | a cluster of processes that serves browsers | `im/main.rs`, with the terminal client `im-chat/main.rs` |

mod goods;
mod greeter;
mod process;
mod security;

pub use goods::{Good, Goods, GoodsCatalog, GoodsClient, GoodsError, GoodsServer};
pub use greeter::{GreetError, Greeter, GreeterClient, GreeterServer, PoliteGreeter};
pub use process::{Failure, RegistryArgs, log_to_stderr, shutdown_signal};
pub use security::{ClientSecurity, ServerSecurity};
