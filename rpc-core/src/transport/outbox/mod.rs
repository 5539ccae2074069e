//! The output queue of a connection.
//!
//! | topic | module |
//! |---|---|
//! | the queue: appending, taking, capacity ([`Outbox`]) | `queue` |
//! | the turn of a task that has waited for capacity ([`OutboxTurn`]) | `turn` |
//! | long frames and items, by call, in fragments | `bulk` |
//! | the capacity of one priority | `lane` |
//! | tasks in the order of their arrival | `wait_line` |

mod bulk;
mod lane;
mod queue;
mod turn;
mod wait_line;

pub use queue::{Outbox, Position, Priority, PushError, SendQueue};
pub use turn::OutboxTurn;
