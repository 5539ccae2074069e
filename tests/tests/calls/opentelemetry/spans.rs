//! Export to OpenTelemetry: one trace whose spans keep their parents across a socket.

use opentelemetry::trace::{SpanKind, Status, TracerProvider as _};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use rpc_client::Client;
use rpc_core::layer::Layered;
use rpc_layers::Trace;
use rpc_server::Server;
use tests::{
    probe::{Probe, ProbingClient},
    serving::Serving,
};
use tracing::Instrument as _;
use tracing_subscriber::layer::SubscriberExt as _;

#[tokio::test]
async fn client_and_server_spans_share_one_trace() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("tests"));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));

    let probe = Probe::default();
    let serving = Serving::start(Server::builder().service(probe.server()).layer(Trace)).await;
    let client = Client::builder().build().expect("the config is valid");
    let probing = ProbingClient::new(Layered::new(client.clone()).layer(Trace));
    let work = async {
        let seen = probing.context().address(serving.address()).await.expect("the call succeeds");
        probing.panic(true).address(serving.address()).await.expect_err("the handler panics");
        seen
    };
    let seen = work.instrument(tracing::info_span!("work")).await;
    // This client has no trace layer and sends a foreign trace context.
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let plain = ProbingClient::new(client).echo("x".to_owned()).metadata("traceparent", parent);
    plain.address(serving.address()).await.expect("the call succeeds");

    let spans = exporter.get_finished_spans().expect("the exporter holds the spans");
    let one = |kind: SpanKind, name: &str| -> &SpanData {
        let found: Vec<_> = spans.iter().filter(|span| span.span_kind == kind && span.name == name).collect();
        assert_eq!(found.len(), 1, "{name}: {spans:#?}");
        found[0]
    };
    let work = one(SpanKind::Internal, "work");
    let call = one(SpanKind::Client, "test.Probe:1.0/context");
    let serve = one(SpanKind::Server, "test.Probe:1.0/context");
    assert_eq!(call.parent_span_id, work.span_context.span_id());
    assert_eq!(serve.parent_span_id, call.span_context.span_id());
    for span in [call, serve] {
        assert_eq!(span.span_context.trace_id(), work.span_context.trace_id());
    }
    let sent = format!("00-{}-{}-01", call.span_context.trace_id(), call.span_context.span_id());
    assert_eq!(seen.metadata("traceparent"), Some(&*sent));

    for kind in [SpanKind::Client, SpanKind::Server] {
        assert!(matches!(one(kind, "test.Probe:1.0/panic").status, Status::Error { .. }));
    }
    let echo = one(SpanKind::Server, "test.Probe:1.0/echo");
    assert_eq!(echo.span_context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(echo.parent_span_id.to_string(), "b7ad6b7169203331");
}
