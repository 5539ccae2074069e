//! The nodes of the cluster, the links between them, and the delivery of messages to sessions on any node.
//!
//! | topic | module |
//! |---|---|
//! | the RPC service between nodes | `rpc`, implemented in `forward` |
//! | this node's description; the nodes that are alive | `local_node`, `view`, `router` |
//! | the link to one node, and its queue | `peer_link` |
//! | a payload and its recipients | `message` |
//! | delivery to users and members; the members of large groups | `delivery`, `member_cache` |
//! | messages for all nodes | `broadcast` |
//! | counts of messages that the clients of a node may have missed | `missed` |

pub(crate) mod broadcast;
pub(crate) mod delivery;
pub(crate) mod forward;
pub(crate) mod local_node;
pub(crate) mod member_cache;
pub(crate) mod message;
pub(crate) mod missed;
pub(crate) mod peer_link;
pub(crate) mod router;
pub(crate) mod rpc;
pub(crate) mod view;
