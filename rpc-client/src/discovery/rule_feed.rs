//! [`RuleFeed`]: the documents with the rules of the services that a client calls.

use std::sync::Arc;

use rpc_core::{RuleSource, ServiceId};
use tokio::time::{Instant, sleep_until};

use super::watch::Watch;

/// The source of the rules of services, and the function that applies a document to the calls of a service.
pub(crate) struct RuleFeed {
    pub(crate) source: Arc<dyn RuleSource>,
    pub(crate) apply: Box<ApplyDocument>,
}

/// Applies the document of a service.
pub(crate) type ApplyDocument = dyn Fn(&ServiceId, &Arc<str>) + Send + Sync;

impl RuleFeed {
    /// Applies the document of a service, and its changes. Runs until it is dropped.
    pub(super) async fn follow(self: Arc<Self>, service: ServiceId) {
        let mut watch = Watch::new({
            let (feed, service) = (Arc::clone(&self), service.clone());
            move || feed.source.watch_rules(&service)
        });
        loop {
            if let Some(text) = watch.latest(Instant::now()) {
                (self.apply)(&service, &text);
            }
            let again_at = watch.again_at();
            // Cancel-safe: the next iteration reads the latest document.
            tokio::select! {
                biased;
                () = watch.changed() => {}
                () = sleep_until(again_at.unwrap_or_else(Instant::now)), if again_at.is_some() => {}
            }
        }
    }
}
