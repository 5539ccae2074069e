//! [`Handlers`]: the endpoints that share connections of HTTP/2.

use std::sync::Arc;

use hyper::{Request, body::Incoming};

use super::{handler::Http2Handler, limits::Http2Limits};

/// The handlers of the endpoints of a server, in their order, of which there is at least one.
pub(super) struct Handlers {
    pub(super) all: Vec<Arc<dyn Http2Handler>>,
    /// The strictest limits of all.
    pub(super) limits: Http2Limits,
}

impl Handlers {
    /// Returns `None` without a handler.
    pub(super) fn new(all: Vec<Arc<dyn Http2Handler>>) -> Option<Self> {
        let first = all.first()?.limits();
        let limits = all.iter().fold(first, |limits, handler| limits.strictest(&handler.limits()));
        Some(Self { all, limits })
    }

    /// Returns the position of the handler that answers a request.
    pub(super) fn position(&self, request: &Request<Incoming>) -> usize {
        self.all.iter().position(|handler| handler.accepts(request)).unwrap_or(0)
    }
}
