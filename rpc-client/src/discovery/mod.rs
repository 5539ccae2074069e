//! The providers of a service.

pub(crate) mod balance;
pub(crate) mod providers;
pub(crate) mod snapshot;
