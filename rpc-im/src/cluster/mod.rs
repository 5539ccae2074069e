//! The nodes of the cluster, the links between them, and delivery over these links.
//!
//! | topic | module |
//! |---|---|
//! | this node's description; the nodes that are alive, and the owner of a key | `local_node`, `view` |
//! | the registry, the majority, one link per node | `router` |
//! | hellos and the outgoing queue of one link | `peer_link`, `resync_counters` |
//! | messages between nodes | `message`; as an RPC service `rpc`, implemented in `forward` |
//! | delivery to the sessions of a user, with retries | `delivery` |
//! | the limit on forwarded requests | `hops` |

pub(crate) mod delivery;
pub(crate) mod forward;
pub(crate) mod hops;
pub(crate) mod local_node;
pub(crate) mod message;
pub(crate) mod peer_link;
pub(crate) mod resync_counters;
pub(crate) mod router;
pub(crate) mod rpc;
pub(crate) mod view;
