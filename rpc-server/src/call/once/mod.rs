//! Once calls: calls that the server executes at most once, however often their request arrives.
//!
//! | topic | module |
//! |---|---|
//! | the answers that the servers of a cluster share | `store` |
//! | a request that waits for the answer of a once call | `waiter` |
//! | the once calls and the stored answers of this server | `calls` |
//! | the once calls that this server rejected | `rejected` |

mod calls;
mod rejected;
mod store;
mod waiter;

pub(crate) use calls::{OnceAdmission, OnceCalls};
pub(crate) use store::claim;
pub use store::{Claim, OnceStore};
pub(crate) use waiter::Waiter;
