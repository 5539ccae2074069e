//! Registries: `local:`, and Nacos with official servers and r-nacos.

#![expect(clippy::unwrap_used, reason = "a panic reports the failing line")]

mod local;
mod log_sinks;
mod msnb_command;
mod nacos;
mod official;
mod outages;
mod runtimes;
mod safety;
