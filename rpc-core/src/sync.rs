//! The locks and flags on whose order arguments rest: the standard library's, or shuttle's while it looks for an order in which
//! an argument fails (`--cfg shuttle`, see docs/TESTING.md).

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

/// The standard library's, but others may run before each look.
#[cfg(shuttle)]
#[derive(Debug)]
pub struct OnceLock<T>(std::sync::OnceLock<T>);

#[cfg(shuttle)]
impl<T> OnceLock<T> {
    /// An empty one.
    pub const fn new() -> Self {
        Self(std::sync::OnceLock::new())
    }

    /// What is in it.
    pub fn get(&self) -> Option<&T> {
        shuttle::thread::yield_now();
        self.0.get()
    }

    /// What is in it, after it was put there.
    pub fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        shuttle::thread::yield_now();
        self.0.get_or_init(init)
    }
}
