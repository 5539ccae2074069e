//! What msnb's tests share.

pub mod branch;
pub mod ledger;
pub mod load;
pub mod nacos;
pub mod probe;
pub mod process;
pub mod raw_peer;
pub mod relay;
pub mod scripted;
pub mod serving;
mod time;
pub mod wire_probe;

pub use time::{Task, in_time};
