//! The in-flight table of one connection: plain data without I/O and without a clock.
//!
//! | topic | module |
//! |---|---|
//! | slots, deadlines, free slots, waiters | `table` |
//! | request ids | `call_id` |
//! | the caller's end of a call | `receiver` |

mod call_id;
mod receiver;
mod table;

pub(crate) use self::{
    call_id::CallId,
    receiver::Outcome,
    table::{CallCounts, CallStatus, Delivered, InFlightTable, NewCall},
};
