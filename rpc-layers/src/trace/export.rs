//! The ids of OpenTelemetry spans, which replace the ids of this crate.

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::TraceContext;

/// Sets the remote parent of a new span. Without one, the enclosing span stays the parent.
pub(super) fn set_parent(span: &Span, parent: Option<&TraceContext>) {
    let Some(parent) = parent else { return };
    let (trace, id, flags, state) = parent.parts();
    let state = state.and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    let (trace, id) = (TraceId::from_bytes(trace.to_be_bytes()), SpanId::from_bytes(id.to_be_bytes()));
    let remote = SpanContext::new(trace, id, TraceFlags::new(flags), true, state);
    // Fails only if the subscriber has no tracing-opentelemetry layer.
    let _ = span.set_parent(Context::new().with_remote_span_context(remote));
}

/// Returns the ids that OpenTelemetry gave a span; `None` without a tracing-opentelemetry layer.
pub(super) fn context_of(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    let span = context.span();
    let ids = span.span_context();
    if !ids.is_valid() {
        return None;
    }
    let (trace, id) = (u128::from_be_bytes(ids.trace_id().to_bytes()), u64::from_be_bytes(ids.span_id().to_bytes()));
    let state = Some(ids.trace_state().header()).filter(|state| !state.is_empty());
    Some(TraceContext::new(trace, id, ids.trace_flags().to_u8(), state))
}
