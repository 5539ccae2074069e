//! The IM cluster: users hold a WebSocket to some node, and a message for a user on another node is forwarded by an RPC service
//! built on msnb's public interface alone.
//!
//! | question | file |
//! |---|---|
//! | what do a client and a node say to each other? | `envelope/` |
//! | how is a node started, and how does it leave? | `node/`, with what `config.rs` |
//! | where do clients connect, by HTTP and WebSocket? | `edge/` |
//! | who is somebody? | `auth/` |
//! | how is a node a command, and what is a client in Rust? | `command.rs`, `client/` |
//! | what happens to what a client says? | `session.rs` |
//! | what happens to one that does not read? | `outbox.rs` |
//! | who is on this node? | `sessions.rs`; anywhere: `directory/` |
//! | which nodes live, and who is responsible for what? | `router.rs`, `view.rs` |
//! | how does a message reach another node? | `delivery.rs`, `peer.rs`, by the service in `forward.rs` |
//! | where is a conversation, and how is it not lost? | `home/`, on disk `store/` |
//! | who is told that somebody came or went? | `presence.rs` |
//! | how do two sides of a room meet? | `pairing.rs` |
//!
//! What it promises, and what not, is told in docs/IM.md.

pub mod auth;
pub mod client;
mod cluster;
pub mod command;
mod config;
mod conversation;
mod directory;
pub mod edge;
pub mod envelope;
mod identity;
mod node;
mod presence;
mod session;
mod snowflake;
mod store;

pub use cluster::view::NodeInfo;
pub use config::{DirectoryChoice, NodeConfig};
pub use directory::{Conflict, Policy, Scope, redis::RedisUrl};
pub use identity::{Epoch, NodeId, NodeKey, SessionId};
pub use node::{Login, Node, Refused};
pub use session::{
    client_session::Session,
    outbox::Outbound,
    pair_session::{Absent, PairOutbound, PairSession, Side},
};
