//! One call, from its options to its answer.
//!
//! | topic | module |
//! |---|---|
//! | the call's future, a state machine | `future` |
//! | the target of a call: a service or an address | `target` |
//! | the pick of a channel | `pick` |
//! | waiting for a provider, and why none accepts calls | `acquire`, `no_provider` |
//! | waiting for the providers of a service before its first call | `warm_up` |
//! | waiting for capacity on a channel | `capacity` |
//! | the codec of an attempt, if the contracts of both ends differ | `agreement` |
//! | the bytes of a request | `encode` |
//! | the parts of a call that most calls do not have | `extras` |
//! | the attempts in flight | `attempts` |
//! | the streams of a call | `streams` |
//! | the consequences of an attempt that has ended or is late | `settle` |
//! | the consequences of an attempt for its provider | `judged_attempt` |
//! | the decision to retry | `retry` |
//! | the failures that are the provider's fault | `provider_failure` |
//! | the reply or error in an outcome | `outcome` |
//! | errors that several modules create | `error` |

mod acquire;
mod acquired;
mod agreement;
mod attempts;
mod capacity;
mod encode;
mod error;
mod extras;
pub(crate) mod future;
mod judged_attempt;
mod no_provider;
mod outcome;
mod pick;
mod provider_failure;
mod retry;
mod settle;
mod streams;
pub(crate) mod target;
pub(crate) mod warm_up;
