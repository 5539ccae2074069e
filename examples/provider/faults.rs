//! [`Faults`]: a layer that makes a provider slow or faulty, to show how consumers route around it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use msnb::{
    Code, Status,
    layer::{IncomingCall, Served, ServerLayer, ServerNext},
};

/// Delays all calls, and fails a part of them with `Internal`.
#[derive(Debug)]
pub(crate) struct Faults {
    /// From 0 to 1.
    fail_rate: f64,
    delay: Duration,
    calls: AtomicU64,
}

impl Faults {
    pub(crate) fn new(fail_rate: f64, delay: Duration) -> Self {
        Self { fail_rate, delay, calls: AtomicU64::new(0) }
    }

    /// Returns whether the next call fails. The failures are spread evenly over the calls.
    fn fails(&self) -> bool {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) as f64;
        ((number + 1.0) * self.fail_rate).floor() > (number * self.fail_rate).floor()
    }
}

impl ServerLayer for Faults {
    async fn serve(&self, _: &IncomingCall, next: ServerNext<'_>) -> Served {
        if self.fails() {
            return next.reject(Status::new(Code::Internal, "the provider fails a part of its calls (--fail-rate)"));
        }
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        next.run().await
    }
}
