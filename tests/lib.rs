//! msnb's tests.

pub mod nacos;
pub mod raw_peer;
pub mod wire;
