//! [`MethodLimits`]: a service whose methods limit their running handlers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use rpc_core::{BoxFuture, Code, MethodInfo, Payload, Responder, Service, ServiceId, Status, descriptor::Contract};

use super::guarded::Guarded;

/// A service of which some methods limit their running handlers, with `#[rpc(max_running = …)]`.
pub(super) struct MethodLimits {
    service: Arc<dyn Service>,
    /// The number of running handlers of each method.
    running: Arc<[AtomicU32]>,
}

impl MethodLimits {
    /// Wraps a service. Returns it unchanged if none of its methods has a limit.
    pub(super) fn around(service: Arc<dyn Service>) -> Arc<dyn Service> {
        if service.methods().iter().all(|method| method.max_running().is_none()) {
            return service;
        }
        let running = service.methods().iter().map(|_| AtomicU32::new(0)).collect();
        Arc::new(Self { service, running })
    }
}

impl Service for MethodLimits {
    fn id(&self) -> &ServiceId {
        self.service.id()
    }

    fn methods(&self) -> &[MethodInfo] {
        self.service.methods()
    }

    fn contract(&self) -> Option<&Contract> {
        self.service.contract()
    }

    fn call(&self, method: usize, arguments: Payload, responder: Responder) -> BoxFuture<'static, ()> {
        let info = self.service.methods().get(method);
        let Some((info, limit)) = info.and_then(|info| Some((info, info.max_running()?))) else {
            return self.service.call(method, arguments, responder);
        };
        let counter = &self.running[method];
        if counter.fetch_update(Relaxed, Relaxed, |running| (running < limit).then_some(running + 1)).is_err() {
            let message = format!("{} has {limit} running handlers, limit is {limit} (max_running)", info.route());
            responder.reject_until(Status::new(Code::ResourceExhausted, message), RETRY_AFTER);
            return Box::pin(std::future::ready(()));
        }
        let running = RunningHandler { running: Arc::clone(&self.running), method };
        Box::pin(Guarded::new(self.service.call(method, arguments, responder), running))
    }
}

/// A handler that counts as running until it has ended or is dropped.
struct RunningHandler {
    running: Arc<[AtomicU32]>,
    method: usize,
}

impl Drop for RunningHandler {
    fn drop(&mut self) {
        self.running[self.method].fetch_sub(1, Relaxed);
    }
}

/// The retry-after of a call above the limit of its method.
///
/// The client may call another server at once, and does not stop to call other methods of this one.
const RETRY_AFTER: Duration = Duration::ZERO;

#[cfg(test)]
mod tests {
    use rpc_core::rpc_service;

    use super::*;

    #[rpc_service(name = "demo.Greeter", version = "1.0")]
    trait Greeter {
        #[rpc(max_running = 1)]
        async fn hello(&self) -> String;
    }

    struct Polite;

    impl Greeter for Polite {
        async fn hello(&self) -> String {
            "hello".to_owned()
        }
    }

    #[test]
    fn limited_service_keeps_its_description() {
        let service: Arc<dyn Service> = Arc::new(GreeterServer::new(Polite));
        let limited = MethodLimits::around(Arc::clone(&service));
        assert!(!Arc::ptr_eq(&service, &limited));
        assert_eq!(limited.contract().map(|contract| &*contract.name), Some("demo.Greeter"));
    }
}
