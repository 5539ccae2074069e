//! [`RuleSource`]: the documents with the rules of services.

use std::sync::Arc;

use tokio::sync::watch;

use crate::ServiceId;

/// The document with the rules of a service: `None` until the source has answered, empty if there is no document.
///
/// The sender exists while the source watches. When it is dropped, a client keeps the last document and watches again:
/// after 1 s, and after pauses that double up to 30 s.
pub type RuleDocument = watch::Receiver<Option<Arc<str>>>;

/// Provides the rules of services, which operators change while programs run.
///
/// rpc-client parses the documents; docs/ROUTING.md describes them. rpc-registry reads them from Nacos.
pub trait RuleSource: Send + Sync + 'static {
    /// Watches the document of `service`. All versions of a service have one document.
    ///
    /// Never fails and never waits: while the source is unreachable, the document stays `None` or as it was.
    fn watch_rules(&self, service: &ServiceId) -> RuleDocument;
}
