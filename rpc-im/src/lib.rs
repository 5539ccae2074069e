//! An instant messaging cluster on msnb.
//!
//! Users connect to any node by WebSocket, and nodes forward messages to each other through an RPC service. Messages are
//! in a store that all nodes share, sessions in a directory. The crate uses the public interface of msnb only.
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
//! | writes to conversations, receipts | `conversation` |
//! | links between nodes, delivery and forwarding | `cluster` |
//! | conversations and messages: the interface and its engines | [`store`] |
//! | the sessions of a user on all nodes: the interface and its engines | [`directory`] |
//! | the list of nodes: the interface and its engines | [`membership`] |
//! | the RPC service of administrators | `admin` |
//! | the node that has the store, for others | `storing_node` |
//! | announcements of online and offline users | `presence` |
//! | ids of nodes and sessions; a clock; rate limits; files of secrets | `identity`, `boot_clock`, `rates`, `files` |
//!
//! docs/IM.md states what the cluster guarantees and what it does not.

mod admin;
pub mod auth;
pub mod backplane;
mod boot_clock;
pub mod client;
mod cluster;
pub mod command;
mod config;
mod conversation;
pub mod directory;
pub mod edge;
pub mod envelope;
mod files;
mod identity;
pub mod membership;
mod node;
mod presence;
mod rates;
mod session;
#[cfg(feature = "sql")]
pub mod sql;
pub mod store;
mod storing_node;

pub use admin::{Admin, AdminClient, Statistics};
pub use cluster::view::NodeInfo;
pub use config::{DirectoryChoice, MembershipChoice, NodeConfig, NodeTls, StoreChoice};
pub use directory::{Conflict, Policy, Scope};
pub use identity::{NodeId, SessionId};
pub use node::{Health, Login, LoginError, Node};
pub use session::{
    client_session::Session,
    outbox::Outbound,
    pair_session::{OtherSideAbsent, PairOutbound, PairSession, Side},
};
