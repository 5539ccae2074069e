//! [`Trace`]: spans that continue across processes.

mod context;
#[cfg(feature = "opentelemetry")]
mod export;

use rpc_core::{
    Code, Context, Error, MethodInfo, Reply,
    layer::{ClientLayer, ClientNext, IncomingCall, OutgoingCall, Served, ServerLayer, ServerNext},
};
use tracing::{Instrument, Span, field::Empty, info_span};

pub use context::TraceContext;

use crate::outcome;

/// Opens a span for each call at the client and at the server.
///
/// The layer sends the ids of the span as [W3C trace context](https://www.w3.org/TR/trace-context/): the span of the
/// client is the parent of the span of the server, which is the parent of the calls that its handler makes.
///
/// The spans `call` and `serve` have level info and the fields `rpc.service`, `rpc.method`, `code`, `trace_id`,
/// `span_id` and `parent_id`. If the subscriber disables them, received ids are passed on unchanged. A handler that
/// spawns a task passes the span by `tracing::Instrument` and the ids by [`TraceContext::scope`].
///
/// The server trusts received ids and flags: by its `sampled` flag, a caller decides whether the usual samplers of
/// OpenTelemetry record its trace. For untrusted callers, use a sampler that ignores the parent.
///
/// # OpenTelemetry
///
/// With the feature `opentelemetry` and a subscriber with a layer of the crate `tracing-opentelemetry`, the ids are
/// those of the OpenTelemetry spans, which the tracer of that layer exports:
///
/// ```ignore
/// let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build()?;
/// let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().with_batch_exporter(exporter).build();
/// tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(provider.tracer("my service"))).init();
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Trace;

impl ServerLayer for Trace {
    async fn serve(&self, arrival: &IncomingCall, next: ServerNext<'_>) -> Served {
        let (context, method) = (arrival.context(), arrival.method());
        let parent = TraceContext::from_metadata(context.metadata());
        let span = info_span!(
            "serve",
            otel.name = method.route(),
            otel.kind = "server",
            otel.status_code = Empty,
            rpc.system = "msnb",
            rpc.service = %method.service(),
            rpc.method = method.name(),
            peer = context.peer().address.map(tracing::field::display),
            code = Empty,
            trace_id = Empty,
            parent_id = Empty,
            span_id = Empty,
        );
        #[cfg(feature = "opentelemetry")]
        export::set_parent(&span, parent.as_ref());
        let own = begin(&span, parent);
        let _end = ServedEnd { span: &span, context };
        let serving = next.run().instrument(span.clone());
        match own {
            Some(own) => own.scope(serving).await,
            None => serving.await,
        }
    }
}

impl ClientLayer for Trace {
    async fn call(&self, mut call: OutgoingCall, next: ClientNext<'_>) -> Result<Reply, Error> {
        let method: &'static MethodInfo = call.method;
        let (given, current) = (TraceContext::from_metadata(&call.options.metadata), TraceContext::current());
        // Every call of a handler inherits the trace of the handler's own call. Only a different trace was set by the
        // program.
        let is_inherited = |given: &TraceContext| current.as_ref().is_some_and(|current| current.is_of_trace(given));
        let given = given.filter(|given| !is_inherited(given));
        let span = info_span!(
            "call",
            otel.name = method.route(),
            otel.kind = "client",
            otel.status_code = Empty,
            rpc.system = "msnb",
            rpc.service = %method.service(),
            rpc.method = method.name(),
            code = Empty,
            trace_id = Empty,
            parent_id = Empty,
            span_id = Empty,
        );
        #[cfg(feature = "opentelemetry")]
        export::set_parent(&span, given.as_ref());
        if let Some(own) = begin(&span, given.or(current)) {
            own.to_metadata(&mut call.options.metadata);
        }
        let mut end = CallEnd { span: span.clone(), code: Code::Cancelled };
        let outcome = next.run(call).instrument(span).await;
        end.code = outcome::called(&outcome);
        outcome
    }
}

/// Returns the ids of a new span, and records them in the span.
fn begin(span: &Span, parent: Option<TraceContext>) -> Option<TraceContext> {
    if span.is_disabled() {
        return parent;
    }
    let child = || TraceContext::child_of(parent.as_ref());
    #[cfg(feature = "opentelemetry")]
    let own = export::context_of(span).unwrap_or_else(child);
    #[cfg(not(feature = "opentelemetry"))]
    let own = child();
    span.record("trace_id", own.trace_id()).record("span_id", own.span_id());
    if let Some(parent) = parent.filter(|parent| parent.is_of_trace(&own)) {
        span.record("parent_id", parent.span_id());
    }
    Some(own)
}

/// Records the outcome of a served call, also when its handler is dropped.
struct ServedEnd<'a> {
    span: &'a Span,
    context: &'a Context,
}

impl Drop for ServedEnd<'_> {
    fn drop(&mut self) {
        let code = outcome::served(self.context);
        // The OpenTelemetry conventions for gRPC: an error of the caller is no error of the server span.
        let is_server_error = matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        );
        record(self.span, code, is_server_error);
    }
}

/// Records the outcome of a call to a server; a call that its caller drops is `Cancelled`.
struct CallEnd {
    span: Span,
    code: Code,
}

impl Drop for CallEnd {
    fn drop(&mut self) {
        record(&self.span, self.code, !matches!(self.code, Code::Ok | Code::Application));
    }
}

fn record(span: &Span, code: Code, is_error: bool) {
    span.record("code", tracing::field::display(code));
    if is_error {
        span.record("otel.status_code", "ERROR");
    }
}
