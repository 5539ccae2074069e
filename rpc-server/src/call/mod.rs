//! The calls of a server: their routes, the capacity that they share, the handlers that run, and the answers of once calls.
//!
//! | topic | module |
//! |---|---|
//! | routes, methods and access rules | `dispatcher` |
//! | the limit of running handlers and the queue behind it | `concurrency` |
//! | the status of a rejected call | `rejection` |
//! | the running calls of one connection | `running` |
//! | at-most-once execution: the store of a cluster, the waiting requests, the answers of this server | `once` |

pub(crate) mod concurrency;
pub(crate) mod dispatcher;
pub(crate) mod once;
pub(crate) mod rejection;
pub(crate) mod running;
