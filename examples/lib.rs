//! Code that the example binaries share: registry and security options, logging, signals.
//!
//! | topic | file |
//! |---|---|
//! | contracts | `contracts/` |
//! | serving them | `provider/` |
//! | calling them | `consumer/` |
//! | both in one process, self-contained | `quickstart/main.rs` |
//! | TLS and tokens | `security.rs`; certificates to try them with: `certificates/main.rs` |
//! | the IM cluster | `im/` |

mod process;
mod security;

pub use process::{Failure, RegistryArgs, log_to_stderr, shutdown_signal};
pub use security::{ClientSecurity, ServerSecurity};
