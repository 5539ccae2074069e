//! The tests that every engine passes: each function takes handles of several nodes to one engine.

pub mod backplane;
pub mod directory;
pub mod membership;
pub mod store;

/// Returns a name that no other test uses.
fn unique(prefix: &str) -> String {
    format!("{prefix}-{:016x}", rand::random::<u64>())
}
