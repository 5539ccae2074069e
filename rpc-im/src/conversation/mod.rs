//! Conversations: their leaders, replicas and histories.
//!
//! The leader of a conversation orders its messages and copies them to the replicas. It is the first node in the
//! conversation's ranking (rendezvous hashing), and the replicas are the next ones. So when the leader is lost, the
//! next leader is a node with a replica.
//!
//! | topic | module |
//! |---|---|
//! | references to conversations, and their ids | `reference` |
//! | the RPC service between nodes, and its errors | `rpc`, `error`, implemented in `service` |
//! | routing of a request to the leader | `conversations` |
//! | the task of one conversation and its commands | `task`, `command`, `context` |
//! | election of a leader, and replication | `leadership` |

mod command;
pub(crate) mod context;
mod conversations;
mod error;
mod leadership;
mod reference;
mod rpc;
mod service;
mod task;

pub(crate) use conversations::Conversations;
pub(crate) use error::ConversationError;
pub(crate) use reference::{ConversationRef, group_id};
pub(crate) use rpc::{ConversationRpcServer, NewMessage};
pub(crate) use service::ConversationService;
