//! What the examples share: two contracts with their implementations, and how a binary logs and is stopped.
//!
//! | question | file |
//! |---|---|
//! | what does a contract look like? | `greeter.rs`, `goods.rs` |
//! | how is it served? | `provider/main.rs` |
//! | how is it called? | `consumer/main.rs` |
//! | how is it encrypted, and who may call? | `security.rs`, certificates to try it with `certificates/main.rs` |
//! | all of it in one process? | `quickstart/main.rs` |

mod goods;
mod greeter;
mod process;
mod security;

pub use goods::{Good, Goods, GoodsClient, GoodsError, GoodsServer, Shelf};
pub use greeter::{GreetError, Greeter, GreeterClient, GreeterServer, PoliteGreeter};
pub use process::{Failure, RegistryArgs, log_to_stderr, stopped_by_signal};
pub use security::{ClientSecurity, ServerSecurity};
