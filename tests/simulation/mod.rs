//! Simulates three servers, three clients, an unreliable registry and a faulty network in one thread.
//!
//! Clients may read slowly, handlers may panic, and a server may serve an incompatible contract.
//!
//! Time, random numbers and the network are simulated: the seed determines all events, and a failure can be replayed.
//!
//! | topic | module |
//! |---|---|
//! | faults and parameters of a run | `plan` |
//! | execution of a run, its clients and servers | `run`, `client`, `server` |
//! | services and their contracts | `services`, `contract` |
//! | registry | `registry` |
//! | connections, their sockets, and proxies that tamper with answers | `network`, `sockets`, `tampering` |
//! | recorded events, and the state at the end | `history`, `final_state` |
//! | checked properties, and those of connections | `checks`, `connections` |
//! | runs of many seeds | `seeds` |

mod checks;
mod client;
mod connections;
mod contract;
mod final_state;
mod history;
mod network;
mod plan;
mod registry;
mod run;
mod seeds;
mod server;
mod services;
mod sockets;
mod tampering;

pub use run::{Report, run};
pub use seeds::{SeedSelection, run_all};
