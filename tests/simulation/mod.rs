//! A whole system in one thread, under one seed: three servers, three clients, a registry that lies, and a network that fails.
//!
//! Time, chance and the network are simulated, so a seed tells everything that happens, and a failure can be repeated.
//!
//! | question | file |
//! |---|---|
//! | what happens in a run of a seed? | `plan.rs` |
//! | how is it run? | `run.rs`, its clients `customer.rs`, its servers `shop.rs` |
//! | what do the servers serve? | `contract.rs` |
//! | what does the registry say? | `registry.rs` |
//! | how do bytes travel? | `network.rs`, and who tampers with answers `meddler.rs` |
//! | what is written down? | `history.rs` |
//! | what must hold afterwards? | `checks.rs`, of connections `connections.rs` |
//! | how are many seeds run? | `seeds.rs` |

mod checks;
mod connections;
mod contract;
mod customer;
mod history;
mod meddler;
mod network;
mod plan;
mod registry;
mod run;
mod seeds;
mod shop;

pub use run::{Report, run};
pub use seeds::{Asked, run_all};
