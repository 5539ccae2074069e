//! Shared support code of msnb's tests.

#[cfg(target_os = "linux")]
pub mod besieged;
#[cfg(doctest)]
mod book;
pub mod branch;
pub mod browser;
pub mod certificates;
pub mod engines;
pub mod evolution;
pub mod failing_sink;
pub mod foreign;
pub mod http;
pub mod im;
pub mod im_contract;
pub mod im_edge;
pub mod im_history;
pub mod im_line;
pub mod im_net;
pub mod im_nodes;
pub mod im_user;
pub mod im_workload;
pub mod ledger;
pub mod load;
pub mod nacos;
pub mod occupied_thread;
mod patient;
pub mod pipes;
pub mod probe;
pub mod process;
pub mod program;
pub mod raw_peer;
#[cfg(doctest)]
mod readme;
pub mod redis;
pub mod relay;
pub mod scripted;
pub mod seeds;
pub mod serving;
pub mod simulation;
pub mod spring;
mod time;
pub mod wire;

pub use patient::patient;
pub use time::{Task, in_time, until_error, until_ok};
