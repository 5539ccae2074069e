//! The plans of both ends for the streams of a call, and the caller that follows them.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use rand::{RngExt, rngs::SmallRng};
use rpc_core::{BoxFuture, Code, Status, Streaming};
use tokio::time::timeout;

use super::{
    history::History,
    services::{Kind, ServiceError},
    stream_record::{Direction, Item, ReaderPlan, SourceEnd, SourcePlan, StreamArguments, StreamCall},
    streams::{Recorder, SimSource, read},
};

impl StreamCall {
    /// Returns a random plan for the streams of a call of this kind.
    pub(crate) fn random(rng: &mut SmallRng, kind: Kind) -> Self {
        let (up, down) = (source(rng), source(rng));
        let follows = kind == Kind::Talk && rng.random();
        let pends = |source: &SourcePlan| source.end == SourceEnd::Pends;
        let readable = if follows { up.count.min(down.count) } else { down.count };
        let never_ends = pends(&down) || follows && pends(&up);
        let length = up.length;
        let callee_reader = reader(rng, up.count, false);
        Self {
            reader: reader(rng, readable, never_ends),
            arguments: StreamArguments {
                nonce: 0,
                fails: rng.random_bool(0.05),
                source: down,
                follows,
                reader: callee_reader,
                length,
            },
            up,
        }
    }

    /// Returns a plan in which all streams are complete. The callee's stream has one item more if the caller has none.
    pub(crate) fn complete(count: u32, length: usize) -> Self {
        let source = SourcePlan { count, length, pause: Duration::ZERO, end: SourceEnd::Regular };
        let reader = ReaderPlan { pause: Duration::ZERO, stops_after: None };
        let arguments = StreamArguments {
            nonce: 0,
            fails: false,
            // It ends with the caller's stream, if there is one.
            source: SourcePlan { count: count + 1, ..source.clone() },
            follows: true,
            reader: reader.clone(),
            length,
        };
        Self { arguments, up: source, reader }
    }

    /// Returns the stream that the caller sends.
    pub(crate) fn items(&self, history: &Arc<History>) -> Streaming<Item> {
        let recorder = Recorder::new(history, self.arguments.nonce, Direction::Up);
        Streaming::from_stream(SimSource::new(recorder, self.up.clone(), |_| Status::new(Code::DataLoss, "intended")))
    }

    /// Returns whether an upload with this number of received items is complete.
    pub(crate) fn is_whole(&self, received: usize) -> bool {
        match self.arguments.reader.stops_after {
            Some(count) if count <= self.up.count => received == count as usize,
            _ => received == self.up.count as usize && self.up.end == SourceEnd::Regular,
        }
    }

    /// Reads the stream of the callee.
    pub(crate) async fn read(&self, stream: Streaming<Item, ServiceError>, history: &Arc<History>) {
        let nonce = self.arguments.nonce;
        let recorder = Recorder::new(history, nonce, Direction::Down);
        let read = read(stream, &recorder, &self.reader, self.arguments.source.length);
        if timeout(STREAM_LIMIT, read).await.is_err() {
            history.record_violation(format!("the stream of call {nonce} did not end: {self:?}"));
        }
    }
}

/// Completes a future; `None` if it panics.
pub(crate) async fn catch<T>(mut future: BoxFuture<'static, T>) -> Option<T> {
    poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => {
            // A caller that panics drops its call.
            future = Box::pin(std::future::pending());
            Poll::Ready(None)
        }
    })
    .await
}

fn source(rng: &mut SmallRng) -> SourcePlan {
    let (count, length) = match rng.random_range(0..20) {
        0..13 => (rng.random_range(0..20), rng.random_range(0..100)),
        13..19 => (rng.random_range(0..12), rng.random_range(0..3_000)),
        _ => (rng.random_range(1..12), rng.random_range(5_000..20_000)),
    };
    let end = match rng.random_range(0..20) {
        0..15 => SourceEnd::Regular,
        15 | 16 => SourceEnd::Fails,
        17 | 18 => SourceEnd::Pends,
        _ => SourceEnd::Panics,
    };
    SourcePlan { count, length, pause: pause(rng), end }
}

fn reader(rng: &mut SmallRng, count: u32, stops: bool) -> ReaderPlan {
    let stops_after = (stops || rng.random_bool(0.2)).then(|| rng.random_range(0..=count));
    ReaderPlan { pause: pause(rng), stops_after }
}

fn pause(rng: &mut SmallRng) -> Duration {
    Duration::from_millis(if rng.random() { 0 } else { rng.random_range(1..25) })
}

/// Time within which a stream ends under all faults.
const STREAM_LIMIT: Duration = Duration::from_secs(12);
