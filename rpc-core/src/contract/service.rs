//! [`Service`]: the target of a server's calls.

use std::sync::Arc;

use crate::{BoxFuture, MethodInfo, Payload, Responder, ServiceId, descriptor::Contract};

/// A service to which a server dispatches calls.
///
/// `#[rpc_service]` implements this trait; a gateway may implement it by hand.
pub trait Service: Send + Sync + 'static {
    /// Returns the name and version under which clients find the service.
    fn id(&self) -> &ServiceId;

    /// Returns all methods. [`call`](Self::call) identifies a method by its index in this slice.
    fn methods(&self) -> &[MethodInfo];

    /// Returns the description of the service; by default `None`.
    fn contract(&self) -> Option<&Contract> {
        None
    }

    /// Serves one call of the method at index `method`.
    ///
    /// The future ends when the handler has ended. The answer is sent through `responder`.
    fn call(&self, method: usize, arguments: Payload, responder: Responder) -> BoxFuture<'static, ()>;
}

impl<S: Service + ?Sized> Service for Arc<S> {
    fn id(&self) -> &ServiceId {
        (**self).id()
    }

    fn methods(&self) -> &[MethodInfo] {
        (**self).methods()
    }

    fn contract(&self) -> Option<&Contract> {
        (**self).contract()
    }

    fn call(&self, method: usize, arguments: Payload, responder: Responder) -> BoxFuture<'static, ()> {
        (**self).call(method, arguments, responder)
    }
}
