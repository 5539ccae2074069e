//! Fuzz checks of the parsers of registry content: any input is an instance, an address, or skipped.
//!
//! The function takes any bytes and panics if a property does not hold. `cargo fuzz` calls it with the input of
//! libFuzzer (`fuzz_targets/`); `tests/tests/robustness/fuzz.rs` calls it with generated input on every toolchain.

mod instance;

pub use instance::registry_instance;
