//! Registries: `local:`, ZooKeeper, etcd, and Nacos with official servers and r-nacos.

#![expect(clippy::unwrap_used, reason = "a panic reports the failing line")]

mod directories;
mod dubbo;
mod local;
mod log_sinks;
mod msnb_command;
mod nacos;
mod names;
mod official;
mod outages;
mod rules;
mod runtimes;
mod safety;
mod spring;
