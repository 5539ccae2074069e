//! msnb's tests.

pub mod nacos;
pub mod probe;
pub mod process;
pub mod relay;
pub mod scripted;
pub mod serving;
mod time;

pub use time::{Task, in_time, until_error, until_ok};
