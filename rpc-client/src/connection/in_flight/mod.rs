//! The in-flight table of one connection.

mod table;

pub(crate) use self::table::{CallId, Delivered, InFlight, Look, Outcome};
