//! Fuzz checks of the client: any server output answers calls, fails them, or closes the connection.
//!
//! The function takes any bytes and panics if a property does not hold. `cargo fuzz` calls it with the input of
//! libFuzzer (`fuzz_targets/`); `tests/tests/robustness/fuzz.rs` calls it with generated input on every toolchain.

#[path = "../../rpc-core/fuzz/filled.rs"]
#[allow(clippy::duplicate_mod, reason = "each folder is a separate crate of cargo-fuzz; the tests contain all of them")]
mod filled;
mod provider;
mod session;

pub use session::client_session;
