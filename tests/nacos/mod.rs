//! Nacos servers for tests: single servers, which tests kill, restart, pause and administer, and clusters of three.

mod cluster;
pub(crate) mod http;
mod kind;
mod listed;
mod official;
mod ports;
mod r_nacos;
mod server;
mod tools;

pub use self::{cluster::NacosCluster, kind::ServerKind, listed::ListedInstance, server::NacosServer};
