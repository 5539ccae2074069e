//! The calls of a server: routes, shared capacity, running handlers, and stored answers.
//!
//! | topic | module |
//! |---|---|
//! | routes and methods | `dispatcher` |
//! | access rules | `access` |
//! | the limit of running handlers, the share of each peer, and the queue | `concurrency`, by latency `adaptive` |
//! | the limits of running handlers of single methods | `method_limit` |
//! | the counts of calls by method | `measured` |
//! | the work of a handler with a guard | `guarded` |
//! | the key of a peer for limits per peer | `peer_key` |
//! | the status of a rejected call | `rejection` |
//! | the running calls of one connection | `running` |
//! | at-most-once execution: the store of a cluster, the waiting requests, the answers of this server | `once` |

pub(crate) mod access;
mod adaptive;
pub(crate) mod concurrency;
pub(crate) mod dispatcher;
pub(crate) mod guarded;
pub(crate) mod measured;
mod method_limit;
pub(crate) mod once;
pub(crate) mod peer_key;
pub(crate) mod rejection;
pub(crate) mod running;
