//! [`CachePadded`]: a value on cache lines of its own.

/// A value on cache lines of its own, so that writes to it do not slow down readers of its neighbours.
///
/// The alignment is 128 bytes because processors prefetch pairs of 64-byte lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CachePadded<T>(pub(crate) T);
