//! [`FailingSink`]: a subscriber of `tracing` that panics, as a formatter may when the disk of its log is full.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tracing::{Event, Metadata, Subscriber, span, subscriber::DefaultGuard};

/// Panics at each event of one crate, and counts them.
#[derive(Debug)]
pub struct FailingSink {
    target: &'static str,
    events: Arc<AtomicUsize>,
}

impl FailingSink {
    /// Installs a sink of the events of the crate `target` for this thread, until the guard is dropped.
    ///
    /// It receives the events of a test's tasks if their runtime runs on this thread. The counter is that of the events.
    pub fn install(target: &'static str) -> (Arc<AtomicUsize>, DefaultGuard) {
        let events = Arc::default();
        let sink = Self { target, events: Arc::clone(&events) };
        (events, tracing::subscriber::set_default(sink))
    }
}

impl Subscriber for FailingSink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(self.target)
    }

    fn event(&self, _: &Event<'_>) {
        self.events.fetch_add(1, Ordering::Relaxed);
        panic!("deliberate: the log cannot be written");
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
