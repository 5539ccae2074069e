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
//! | streams of calls: their plans, their two ends, and what happened | `stream_calls`, `streams`, `stream_record` |
//! | services and their contracts | `services`, `contract` |
//! | registry | `registry` |
//! | connections, their sockets, a check of their frames, and proxies that tamper with answers | `network`, `sockets`, `monitor`, `tampering` |
//! | recorded events, and the state at the end | `history`, `final_state` |
//! | checked properties, those of connections and of streams | `checks`, `connections`, `stream_checks` |
//! | runs of many seeds | `seeds` |

mod checks;
mod client;
mod connections;
mod contract;
mod final_state;
mod history;
mod monitor;
mod network;
mod plan;
mod registry;
mod run;
mod seeds;
mod server;
mod services;
mod sockets;
mod stream_calls;
mod stream_checks;
mod stream_record;
mod streams;
mod tampering;

pub use run::{Report, run};
pub use seeds::{SeedSelection, run_all};
