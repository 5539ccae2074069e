//! [`TraceContext`]: the trace and the span of a call, in the W3C format.

use std::fmt;

use rpc_core::Metadata;

/// The trace and the span that a call belongs to.
///
/// The metadata of a call carries them as the `traceparent` and `tracestate` of
/// [W3C trace context](https://www.w3.org/TR/trace-context/).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    flags: u8,
    /// Data of other tracing systems, passed on unchanged.
    state: Option<String>,
}

impl TraceContext {
    /// Returns the trace context of the handler that this task runs.
    ///
    /// `None` without a [`Trace`](crate::Trace) layer.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// Runs `future` with this trace context as [`current`](Self::current).
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// Returns the id of the trace as 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// Returns the id of the span as 16 hexadecimal digits.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }

    /// Reads the trace context of a call; `None` if it is missing or malformed.
    pub(super) fn from_metadata(metadata: &Metadata) -> Option<Self> {
        let mut context = Self::parse(metadata.get(PARENT)?)?;
        context.state = metadata.get(STATE).map(str::to_owned);
        Some(context)
    }

    /// Replaces the trace context in the metadata of a call.
    ///
    /// If the metadata is full, the call is sent without one.
    pub(super) fn to_metadata(&self, metadata: &mut Metadata) {
        let _ = metadata.set(PARENT, self.to_string());
        if let Some(state) = &self.state {
            let _ = metadata.set(STATE, state);
        }
    }

    /// Returns a new span in the trace of the parent, or in a new trace without a parent.
    pub(super) fn child_of(parent: Option<&Self>) -> Self {
        let span = rand::random::<u64>() | 1;
        match parent {
            Some(parent) => Self { span, ..parent.clone() },
            None => Self { trace: rand::random::<u128>() | 1, span, flags: SAMPLED, state: None },
        }
    }

    pub(super) fn is_of_trace(&self, other: &Self) -> bool {
        self.trace == other.trace
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '-');
        let mut number = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let legal = part.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
            legal.then(|| u128::from_str_radix(part, 16).ok()).flatten()
        };
        let (version, trace, span, flags) = (number(2)?, number(32)?, number(16)?, number(2)?);
        // Later versions may append fields; version 0 has exactly four.
        let has_extra = version == 0 && parts.next().is_some();
        if version == 0xff || has_extra || trace == 0 || span == 0 {
            return None;
        }
        Some(Self { trace, span: span as u64, flags: flags as u8, state: None })
    }
}

#[cfg(feature = "opentelemetry")]
impl TraceContext {
    pub(super) fn new(trace: u128, span: u64, flags: u8, state: Option<String>) -> Self {
        Self { trace, span, flags, state }
    }

    pub(super) fn parts(&self) -> (u128, u64, u8, Option<&str>) {
        (self.trace, self.span, self.flags, self.state.as_deref())
    }
}

/// Writes the `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Unknown flags are not passed on, as the specification requires.
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags & (SAMPLED | RANDOM))
    }
}

tokio::task_local! {
    static CURRENT: TraceContext;
}

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";
/// The caller may have recorded the trace.
const SAMPLED: u8 = 1;
/// The id of the trace is random.
const RANDOM: u8 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of the specification.
    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn traceparent_round_trips_and_children_keep_the_trace() {
        let context = TraceContext::parse(EXAMPLE).unwrap();
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span_id(), "b7ad6b7169203331");
        assert_eq!(context.to_string(), EXAMPLE);
        let mut metadata = Metadata::default();
        let child = TraceContext { state: Some("rojo=1".to_owned()), ..TraceContext::child_of(Some(&context)) };
        child.to_metadata(&mut metadata);
        assert_eq!(TraceContext::from_metadata(&metadata), Some(child.clone()));
        assert!(child.is_of_trace(&context) && child.span != context.span);
    }

    #[test]
    fn malformed_traceparent_is_ignored_but_later_versions_parse() {
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
        let later = EXAMPLE.replacen("00", "cc", 1) + "-more";
        assert_eq!(TraceContext::parse(&later).unwrap().to_string(), EXAMPLE);
    }

    proptest! {
        #[test]
        fn parse_accepts_any_text_without_panic(text in "\\PC*") {
            TraceContext::parse(&text);
        }
    }
}
