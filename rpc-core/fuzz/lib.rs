//! What bytes from the wire may do to frames, heads and payloads: nothing but be read or be refused.
//!
//! Each function takes any bytes and panics when something does not hold that must. `cargo fuzz` calls them with libFuzzer's input
//! (`fuzz_targets/`), and `tests/tests/robustness/fuzz.rs` with input of its own, on every toolchain.

mod frames;
mod payloads;

pub use frames::{frame, frame_stream};
pub use payloads::{bincode, json, messagepack, packed};
