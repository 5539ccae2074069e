//! Code that the example binaries share: registry and security options, logging, signals.
//!
//! | topic | file |
//! |---|---|
//! | contracts | `contracts/` |
//! | provider | `provider/` |
//! | consumer | `consumer/` |
//! | both in one process, without shared code | `quickstart/main.rs` |
//! | TLS and tokens | `security.rs`; test certificates: `certificates/main.rs` |
//! | the IM cluster | `im/` |

mod process;
mod security;

pub use process::{Failure, RegistryArgs, log_to_stderr, shutdown_signal};
pub use security::{ClientSecurity, ServerSecurity};
