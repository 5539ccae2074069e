//! One call, from its arguments to its answer.

pub(crate) mod future;
pub(crate) mod outcome;
