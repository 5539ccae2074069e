//! The providers of the services that a client calls.
//!
//! | topic | module |
//! |---|---|
//! | the called services, each with a follower task | `services`, and `known` for calls without a lock |
//! | the provider list of one service, and the pick of a provider | `providers`, by policy `balance`, a policy of the program `balancer`, or key `affinity` |
//! | the shares of the providers, by weight, slow start, tag and zone | `plan`, of `traits`, by `slow_start` and `zones`; drawn by `weights` |
//! | the providers to which a client connects, if there are many | `subset`, by their `standing` |
//! | why a call can or cannot use each provider | `explain` |
//! | the ejection of providers whose calls fail | `outliers`, by `comparison` and `detectors` |
//! | the follower, which merges the registry's list with the endpoints' states | `follow`, over `watch` and `tracker` |
//! | the rules of a service from a source such as a registry | `rule_feed` |
//! | the provider list on disk | `snapshot` |

pub(crate) mod affinity;
pub(crate) mod balance;
pub(crate) mod balancer;
mod comparison;
mod detectors;
mod explain;
mod follow;
mod known;
pub(crate) mod outliers;
mod plan;
pub(crate) mod providers;
pub(crate) mod rule_feed;
pub(crate) mod services;
mod slow_start;
mod snapshot;
mod standing;
mod subset;
mod tracker;
mod traits;
mod watch;
pub(crate) mod weights;
mod zones;
