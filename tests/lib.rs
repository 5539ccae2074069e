//! msnb's tests.

pub mod nacos;
