//! The OpenTelemetry Collector receives the spans of a client and a server, which export separately, as one trace.

use std::{net::SocketAddr, thread};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use rpc_client::Client;
use rpc_core::layer::Layered;
use rpc_layers::Trace;
use rpc_server::Server;
use tests::{
    engines::collector::{Collector, ReceivedSpan},
    in_time,
    probe::{Probe, ProbingClient},
    until_ok,
};
use tokio::sync::oneshot;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt as _;

/// Exports the spans of this thread as those of `service`, until the guard is dropped.
fn export(service: &'static str, collector: SocketAddr) -> (SdkTracerProvider, DefaultGuard) {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(format!("http://{collector}")).build().unwrap();
    let resource = Resource::builder_empty().with_service_name(service).build();
    let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("tests"));
    let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    (provider, guard)
}

/// Sends the remaining spans. The exporter needs the runtime meanwhile, so this does not block its thread.
async fn flush(provider: SdkTracerProvider) {
    in_time(tokio::task::spawn_blocking(move || provider.shutdown())).await.unwrap().unwrap();
}

/// Serves a probe until the sender of `stopped` is dropped.
async fn serve(collector: SocketAddr, bound: oneshot::Sender<SocketAddr>, stopped: oneshot::Receiver<()>) {
    let (provider, guard) = export("provider", collector);
    let server = Server::builder().service(Probe::default().server()).layer(Trace);
    let server = server.bind("127.0.0.1:0").await.unwrap();
    bound.send(server.local_address()).unwrap();
    server.run_until(stopped).await.unwrap();
    drop(guard);
    flush(provider).await;
}

#[tokio::test]
async fn collector_receives_one_trace_of_client_and_server() {
    let Some(collector) = Collector::start().await else { return };
    let address = collector.address();
    let ((bound, at), (stop, stopped)) = (oneshot::channel(), oneshot::channel());
    // A thread has a subscriber of its own, as a process has.
    let server = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(serve(address, bound, stopped));
    });
    let at = in_time(at).await.unwrap();
    let (provider, guard) = export("consumer", address);
    let client = Client::builder().build().unwrap();
    let probing = ProbingClient::new(Layered::new(client.clone()).layer(Trace));
    probing.echo("x".to_owned()).address(at).await.unwrap();
    client.close().await;
    drop(guard);
    flush(provider).await;
    drop(stop);
    in_time(tokio::task::spawn_blocking(|| server.join())).await.unwrap().unwrap();

    let spans = until_ok(async || {
        let spans = collector.spans();
        if spans.len() == 2 { Ok(spans) } else { Err(()) }
    })
    .await;
    let of = |service: &str| -> &ReceivedSpan { spans.iter().find(|span| span.service == service).unwrap() };
    let (call, serve) = (of("consumer"), of("provider"));
    assert_eq!((&*call.name, &*call.kind), ("test.Probe:1.0/echo", "Client"), "{spans:#?}");
    assert_eq!((&*serve.name, &*serve.kind), ("test.Probe:1.0/echo", "Server"), "{spans:#?}");
    assert_eq!(call.trace, serve.trace, "both are in one trace");
    assert_eq!((call.trace.len(), call.id.len()), (32, 16), "{spans:#?}");
    assert_eq!(call.parent, "", "the call begins the trace");
    assert_eq!(serve.parent, call.id);
}
