//! Statuses that a handler passes on from further downstream: they do not state that the handler did not execute.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rpc_client::{Client, ClientConfig};
use rpc_core::{BoxFuture, Code, Delivery, MethodInfo, Payload, Responder, Service, ServiceId, Status};
use rpc_registry::Memory;
use rpc_server::Server;
use tests::{
    load::until_ready,
    probe::{Probe, ProbingClient},
    serving::Serving,
};

/// A gateway: its handlers do part of their work, and then pass on the status of a server further downstream.
#[derive(Clone)]
struct Gateway {
    probe: Arc<dyn Service>,
    code: Code,
    executions: Arc<AtomicUsize>,
}

impl Service for Gateway {
    fn id(&self) -> &ServiceId {
        self.probe.id()
    }

    fn methods(&self) -> &[MethodInfo] {
        self.probe.methods()
    }

    fn call(&self, _: usize, _: Payload, responder: Responder) -> BoxFuture<'static, ()> {
        self.executions.fetch_add(1, Ordering::SeqCst);
        responder.status(Status::new(self.code, "from downstream"));
        Box::pin(std::future::ready(()))
    }
}

/// Calls a method that is not idempotent through two gateways. Returns the error and the number of executions.
async fn call_through(code: Code) -> (rpc_core::Error, usize) {
    let registry = Arc::new(Memory::named(&format!("relayed {code}")));
    let (probe, executions) = (Arc::new(Probe::default().server()), Arc::<AtomicUsize>::default());
    let gateway = Gateway { probe, code, executions: Arc::clone(&executions) };
    let server = || Server::builder().service(gateway.clone()).registry(Arc::clone(&registry) as _);
    let serving = [Serving::start(server()).await, Serving::start(server()).await];
    let config = ClientConfig::default().with_cache_directory(None);
    let client = Client::builder().registry(registry).config(config).build().unwrap();
    let probing = ProbingClient::new(client.clone());
    drop(probing.echo("connect".to_owned()).wait_for_ready(true).await);
    until_ready(&client, &serving.each_ref().map(Serving::address)).await;
    let before = executions.load(Ordering::SeqCst);
    let error = probing.echo("x".to_owned()).await.unwrap_err();
    (error, executions.load(Ordering::SeqCst) - before)
}

#[tokio::test]
async fn relayed_status_does_not_repeat_the_call() {
    for code in [Code::Unavailable, Code::Unimplemented, Code::ResourceExhausted] {
        let (error, executions) = call_through(code).await;
        assert_eq!((error.code(), error.delivery()), (code, Delivery::Answered), "{error:?}");
        assert_eq!(executions, 1, "{code}");
    }
}
