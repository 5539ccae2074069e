//! Checks the properties of the streams of calls.

use rpc_core::Code;

use super::{
    history::{CallRecord, Events, reports_violation},
    services::Kind,
    stream_record::{Direction, ReadEnd, SourceEnd, StreamRecord},
};

/// Returns the violated properties.
pub(crate) fn check(events: &Events) -> Vec<String> {
    let mut violations = Vec::new();
    for ((nonce, direction), stream) in &events.streams {
        let call = &events.calls[*nonce as usize];
        let violated = violations_of_stream(*direction, stream, call);
        violations.extend(
            violated
                .into_iter()
                .map(|what| format!("{direction:?} stream of call {nonce}: {what}: {stream:?}, {call:?}")),
        );
    }
    for (nonce, call) in events.calls.iter().enumerate().filter(|(_, call)| call.must_succeed) {
        let directions: &[Direction] = match call.kind {
            Kind::Download => &[Direction::Down],
            Kind::Upload => &[Direction::Up],
            Kind::Talk => &[Direction::Up, Direction::Down],
            _ => &[],
        };
        let is_complete = |direction: &Direction| {
            let end = events.streams.get(&(nonce as u64, *direction)).and_then(|stream| stream.read_end.as_ref());
            matches!(end, Some((_, ReadEnd::Complete)))
        };
        if !directions.iter().all(is_complete) {
            violations.push(format!("call {nonce}: a stream without an obstacle is incomplete: {call:?}"));
        }
    }
    violations
}

fn violations_of_stream(direction: Direction, stream: &StreamRecord, call: &CallRecord) -> Vec<&'static str> {
    let mut violated = Vec::new();
    let mut claim = |holds: bool, what| {
        if !holds {
            violated.push(what);
        }
    };
    claim(stream.read <= stream.sent, "more items were read than sent");
    claim(!stream.has_source, "its source was not dropped");
    claim(!stream.has_reader, "its reader has not ended");
    match &stream.read_end {
        Some((_, ReadEnd::Complete)) => {
            claim(stream.source_end == Some(SourceEnd::Regular), "it ended regularly, and its source did not");
            claim(stream.read == stream.sent, "it ended regularly and is incomplete");
        }
        Some((_, ReadEnd::Service)) => {
            claim(stream.source_end == Some(SourceEnd::Fails), "it ended with an error of its source, which has none");
            claim(stream.read == stream.sent, "it ended with the error of its source and is incomplete");
        }
        Some((_, ReadEnd::Failed { code, text })) => {
            claim(!reports_violation(text), "an end violated the protocol");
            claim(explains(direction, stream, call, *code), "no fault of the simulation explains its error code");
        }
        Some((_, ReadEnd::Dropped)) | None => {}
    }
    violated
}

/// Returns whether a fault of the simulation explains the code with which a stream failed.
fn explains(direction: Direction, stream: &StreamRecord, call: &CallRecord, code: Code) -> bool {
    let caller_end = call.streams.as_ref().map(|streams| streams.up.end);
    match (direction, code) {
        (_, Code::Unavailable | Code::ResourceExhausted) => true,
        // The handler has ended the call before the caller's items.
        (Direction::Up, Code::Cancelled) => true,
        (Direction::Down, Code::Internal) => {
            stream.source_end == Some(SourceEnd::Panics) || caller_end == Some(SourceEnd::Panics)
        }
        (Direction::Down, Code::DataLoss) => caller_end == Some(SourceEnd::Fails),
        _ => false,
    }
}
