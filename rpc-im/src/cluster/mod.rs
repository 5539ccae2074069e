//! The nodes of the cluster, the links between them, and delivery over these links.

pub(crate) mod delivery;
pub(crate) mod forward;
pub(crate) mod hops;
pub(crate) mod local_node;
pub(crate) mod peer_link;
pub(crate) mod resync_counters;
pub(crate) mod router;
pub(crate) mod view;
