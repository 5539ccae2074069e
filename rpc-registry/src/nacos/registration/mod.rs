//! [`Registration`]: keeps one address listed for its services.

mod action;
mod desired;
mod driver;
mod service;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rpc_core::{Code, Error, Instance, RegisterOutcome, ServiceId};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use self::driver::{Driver, Request};
use super::{naming, shared::Shared};

/// A handle to the task that keeps one address listed.
///
/// Each address has its own connection to Nacos, because the SDK stores one instance per service and connection: after
/// a reconnect, a second port of the same service would replace the first.
#[derive(Clone)]
pub(super) struct Registration(mpsc::Sender<Request>);

impl Registration {
    /// Returns the handle, and its driver for the caller to spawn.
    pub(super) fn new(address: SocketAddr, shared: Arc<Shared>) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, requests) = mpsc::channel(QUEUE_CAPACITY);
        (Self(sender), Driver::new(address, requests, shared).run(CALLER_TIMEOUT))
    }

    /// Returns whether the driver has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.0.is_closed()
    }

    /// Lists the address for `service` and keeps it listed.
    pub(super) async fn register(&self, service: ServiceId, instance: Instance) -> Result<RegisterOutcome, Error> {
        match timeout(CALLER_TIMEOUT, self.submit(service, Some(instance))).await {
            Ok(outcome) => outcome,
            // The driver continues with the request.
            Err(_) => Ok(RegisterOutcome::Pending),
        }
    }

    /// Removes the address from the list of `service`.
    pub(super) async fn deregister(&self, service: ServiceId) -> Result<(), Error> {
        match timeout(CALLER_TIMEOUT, self.submit(service, None)).await {
            Ok(outcome) => outcome.map(|_| ()),
            Err(_) => Err(Error::not_executed(
                Code::Unavailable,
                format!(
                    "no answer from Nacos within {CALLER_TIMEOUT:?}; the deregistration is retried in the background"
                ),
            )),
        }
    }

    async fn submit(&self, service: ServiceId, instance: Option<Instance>) -> Result<RegisterOutcome, Error> {
        let (reply, outcome) = oneshot::channel();
        let closed = |_| Error::not_executed(Code::Unavailable, "the registry handle or its runtime has ended");
        self.0.send(Request { service, instance, reply }).await.map_err(|_| closed(()))?;
        outcome.await.unwrap_or_else(|_| Err(closed(())))
    }
}

/// The maximum number of queued requests; callers wait while the queue is full.
const QUEUE_CAPACITY: usize = 64;

/// How long a caller waits for Nacos.
///
/// Longer than one request, so that the caller receives the error of a request.
const CALLER_TIMEOUT: Duration = naming::REQUEST_TIMEOUT.saturating_add(Duration::from_secs(1));
