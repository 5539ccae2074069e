//! [`Trace`]: spans that continue across processes.

mod context;
#[cfg(feature = "opentelemetry")]
mod export;

use rpc_core::{
    Code, Context, Error, MethodInfo, Reply, contained,
    layer::{ClientLayer, ClientNext, IncomingCall, OutgoingCall, Served, ServerLayer, ServerNext},
};
use tracing::{Span, field::Empty, info_span};

pub use context::TraceContext;

use crate::{outcome, sink::in_span};

/// Opens a span for each call at the client and at the server.
///
/// The layer sends the ids of the span as [W3C trace context](https://www.w3.org/TR/trace-context/): the span of the
/// client is the parent of the span of the server, which is the parent of the calls that its handler makes.
///
/// The spans `call` and `serve` have level info and the fields `rpc.service`, `rpc.method`, `code`, `trace_id`,
/// `span_id` and `parent_id`. If the subscriber disables them, received ids are passed on unchanged. A handler that
/// spawns a task passes the span by `tracing::Instrument` and the ids by [`TraceContext::scope`]. If the subscriber
/// panics, spans are lost and the call continues.
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
        let new_span = || {
            info_span!(
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
            )
        };
        let (span, own) = begin(new_span, parent, None);
        let end = ServedEnd { span, context };
        let serving = in_span(&end.span, next.run());
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
        let new_span = || {
            info_span!(
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
            )
        };
        let (span, own) = begin(new_span, given, current);
        if let Some(own) = own {
            own.to_metadata(&mut call.options.metadata);
        }
        let mut end = CallEnd { span, code: Code::Cancelled };
        let outcome = in_span(&end.span, next.run(call)).await;
        end.code = outcome::called(&outcome);
        outcome
    }
}

/// Creates a span, and returns it with its ids, which it records in the span.
///
/// The parent is `remote`, which another process or the program has set, or else `enclosing`.
fn begin(
    new_span: impl FnOnce() -> Span,
    remote: Option<TraceContext>,
    enclosing: Option<TraceContext>,
) -> (Span, Option<TraceContext>) {
    let span = contained(new_span).unwrap_or_else(Span::none);
    if span.is_disabled() {
        return (span, remote.or(enclosing));
    }
    let parent = remote.as_ref().or(enclosing.as_ref());
    let own = contained(|| own_ids(&span, remote.as_ref())).flatten();
    let own = own.unwrap_or_else(|| TraceContext::child_of(parent));
    contained(|| {
        span.record("trace_id", own.trace_id()).record("span_id", own.span_id());
        if let Some(parent) = parent.filter(|parent| parent.is_of_trace(&own)) {
            span.record("parent_id", parent.span_id());
        }
    });
    (span, Some(own))
}

/// Returns the ids that the subscriber gave the span, if it gives ids.
#[cfg(feature = "opentelemetry")]
fn own_ids(span: &Span, remote: Option<&TraceContext>) -> Option<TraceContext> {
    export::set_parent(span, remote);
    export::context_of(span)
}

/// Returns the ids that the subscriber gave the span, if it gives ids.
#[cfg(not(feature = "opentelemetry"))]
fn own_ids(_: &Span, _: Option<&TraceContext>) -> Option<TraceContext> {
    None
}

/// Records the outcome of a served call, also when its handler is dropped.
struct ServedEnd<'a> {
    span: Span,
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
        record(&mut self.span, code, is_server_error);
    }
}

/// Records the outcome of a call to a server; a call that its caller drops is `Cancelled`.
struct CallEnd {
    span: Span,
    code: Code,
}

impl Drop for CallEnd {
    fn drop(&mut self) {
        record(&mut self.span, self.code, !matches!(self.code, Code::Ok | Code::Application));
    }
}

/// Records the outcome, and closes the span.
fn record(span: &mut Span, code: Code, is_error: bool) {
    contained(|| {
        span.record("code", tracing::field::display(code));
        if is_error {
            span.record("otel.status_code", "ERROR");
        }
    });
    // Not in the closure above: a second panic while the first one unwinds would abort the process.
    contained(|| *span = Span::none());
}
