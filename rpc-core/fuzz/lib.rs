//! Fuzz checks of frames, fragments, heads and payloads: any input is either decoded or rejected.
//!
//! Each function takes arbitrary bytes and panics if a property does not hold. `cargo fuzz` calls them with the input
//! of libFuzzer (`fuzz_targets/`); `tests/tests/robustness/fuzz.rs` calls them with generated input on every toolchain.

mod filled;
mod fragments;
mod frames;
mod payloads;

pub use fragments::fragments;
pub use frames::{frame, frame_stream};
pub use payloads::{bincode, json, messagepack, packed};
