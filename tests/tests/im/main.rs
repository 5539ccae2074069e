//! The IM cluster as its users and operators observe it.

mod cluster;
mod directories;
mod edge;
mod faults;
mod gateway;
mod nodes;
mod page;
