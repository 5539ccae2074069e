//! msnb's tests.

pub mod nacos;
pub mod simulation;
