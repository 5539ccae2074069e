//! Fuzz checks of the server: it answers any input, rejects it, or closes the connection.
//!
//! The function takes any bytes and panics if a property does not hold. `cargo fuzz` calls it with the input of
//! libFuzzer (`fuzz_targets/`); `tests/tests/robustness/fuzz.rs` calls it with generated input on every toolchain.

mod expected;
#[path = "../../rpc-core/fuzz/filled.rs"]
#[allow(clippy::duplicate_mod, reason = "each folder is a separate crate of cargo-fuzz; the tests contain all of them")]
mod filled;
pub mod listener;
mod service;
mod session;

pub use session::server_session;
