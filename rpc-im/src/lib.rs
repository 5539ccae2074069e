//! An instant messaging cluster on msnb.
//!
//! Users connect to any node by WebSocket, and nodes forward messages to each other through an RPC service. The crate
//! uses the public interface of msnb only.
//!
//! [`Node`] is one node of the cluster, [`edge::Edge`] its port for clients, [`client::Client`] a client in Rust, and
//! [`command::NodeArguments`] the command line of `im-node`.
//!
//! | topic | module |
//! |---|---|
//! | frames between clients and nodes | [`envelope`] |
//! | start, configuration and shutdown of a node | `node`, `config` |
//! | HTTP and WebSocket connections of clients | [`edge`] |
//! | users, passwords and tokens | [`auth`] |
//! | the command line; a client in Rust | [`command`], [`client`] |
//! | the sessions of a node, their requests and queues; pairing rooms | `session` |
//! | nodes, links between them, delivery and forwarding | `cluster` |
//! | the sessions of a user on all nodes | `directory` |
//! | conversations, their leaders and replicas | `conversation` |
//! | messages on disk | `store` |
//! | announcements of online and offline users | `presence` |
//! | ids of nodes, sessions and messages | `identity`, `snowflake` |
//!
//! docs/IM.md states what the cluster guarantees and what it does not.

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
pub use node::{Login, LoginError, Node};
pub use session::{
    client_session::Session,
    outbox::Outbound,
    pair_session::{OtherSideAbsent, PairOutbound, PairSession, Side},
};
