//! The sending end of a stream, independent of the type of its items.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task,
    task::Poll,
};

use crate::{Codec, CodecError, Status, WriteBuffer};

/// The items of a stream, which are encoded one after the other.
pub trait ItemSource: Send {
    /// Appends the encoding of the next item to `out`; `None` at the end of the stream.
    ///
    /// After an error, `out` may end with a part of the item, which the caller must remove.
    fn poll_encode(
        &mut self,
        cx: &mut task::Context<'_>,
        codec: Codec,
        out: &mut WriteBuffer,
    ) -> Poll<Option<Result<(), CodecError>>>;
}

/// The items that a caller sends.
pub trait CallerSource: ItemSource {
    /// Returns the status with which the stream failed, after its end.
    fn take_failure(&mut self) -> Option<Status>;
}

/// The items of a call that its caller sends. Clones share them.
#[derive(Clone)]
pub struct CallerItems(Arc<Shared>);

struct Shared {
    source: Mutex<Option<Box<dyn CallerSource>>>,
    consumed: AtomicBool,
}

impl CallerItems {
    /// Creates the items of a call.
    pub fn new(source: impl CallerSource + 'static) -> Self {
        Self(Arc::new(Shared { source: Mutex::new(Some(Box::new(source))), consumed: AtomicBool::new(false) }))
    }

    /// Takes the items, for one attempt to send them.
    pub fn take(&self) -> Option<Box<dyn CallerSource>> {
        self.lock().take()
    }

    /// Puts the items back for another attempt.
    pub fn put_back(&self, source: Box<dyn CallerSource>) {
        *self.lock() = Some(source);
    }

    /// Records that an item was taken from the source: another attempt would lack it.
    pub fn mark_consumed(&self) {
        self.0.consumed.store(true, Ordering::Relaxed);
    }

    /// Returns whether an item was taken from the source.
    pub fn is_consumed(&self) -> bool {
        self.0.consumed.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<dyn CallerSource>>> {
        self.0.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CallerItems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerItems").finish_non_exhaustive()
    }
}
