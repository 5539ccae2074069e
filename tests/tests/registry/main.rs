//! Registries: `local:`, and Nacos with official servers and r-nacos.

mod local;
mod nacos;
mod official;
mod outages;
