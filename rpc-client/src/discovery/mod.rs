//! The providers of the services that a client calls.
//!
//! | topic | module |
//! |---|---|
//! | the called services, each with a follower task | `services` |
//! | the provider list of one service, and the pick of a provider | `providers`, by policy `balance` or key `affinity` |
//! | the ejection of providers whose calls fail | `outliers`, by `comparison` |
//! | the follower, which merges the registry's list with the endpoints' states | `follow`, over `watch` and `tracker` |
//! | the provider list on disk | `snapshot` |

pub(crate) mod affinity;
pub(crate) mod balance;
mod comparison;
mod follow;
mod outliers;
pub(crate) mod providers;
pub(crate) mod services;
mod snapshot;
mod tracker;
mod watch;
