//! Behaviour that users observe during faults of nodes, of the registry and of Redis: nodes as processes, a real Nacos
//! server, a real Redis, WebSockets. After most cases `ChatWorkload::end` checks the guarantees that hold under every fault.
//!
//! | topic | module |
//! |---|---|
//! | killed, paused and draining nodes | `node_faults` |
//! | outages of the registry and of Redis | `services` |
//! | conflicting logins | `logins` |
//! | resent messages, and clients that do not read | `messages` |
//!
//! The default runs are short; docs/TESTING.md lists the variables of the full runs.

mod logins;
mod messages;
mod node_faults;
mod services;
