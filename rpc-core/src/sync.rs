//! Synchronization primitives for code whose correctness depends on their ordering.
//!
//! They are those of the standard library, or with `--cfg shuttle` those of shuttle, which tests many schedules (see
//! docs/TESTING.md).

#[cfg(not(shuttle))]
pub use std::sync::{
    Mutex, MutexGuard, OnceLock,
    atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, fence},
};

#[cfg(shuttle)]
pub use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, fence},
};

/// The `OnceLock` of the standard library, with a scheduling point before each access.
#[cfg(shuttle)]
#[derive(Debug)]
pub struct OnceLock<T>(std::sync::OnceLock<T>);

#[cfg(shuttle)]
impl<T> OnceLock<T> {
    /// Creates an empty cell.
    pub const fn new() -> Self {
        Self(std::sync::OnceLock::new())
    }

    /// Returns the value, if it was initialized.
    pub fn get(&self) -> Option<&T> {
        shuttle::thread::yield_now();
        self.0.get()
    }

    /// Returns the value, after initializing it if necessary.
    pub fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        shuttle::thread::yield_now();
        self.0.get_or_init(init)
    }
}
