//! The registry backends.
