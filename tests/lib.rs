//! msnb's tests.

pub mod nacos;
pub mod probe;
pub mod raw_peer;
