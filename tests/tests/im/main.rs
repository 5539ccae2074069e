//! The IM cluster as its users and operators observe it.

#![expect(clippy::unwrap_used, reason = "a panic reports the failing line")]

mod admin;
mod cluster;
mod contacts;
mod directories;
mod edge;
mod engines;
mod faults;
mod gateway;
mod health;
mod nodes;
mod page;
mod schedules;
mod secrets;
mod sync;
mod terminal;
