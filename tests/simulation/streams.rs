//! [`SimSource`] and [`read`]: the two ends of a simulated stream, which record what they send and receive.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    time::Duration,
};

use futures_util::Stream;
use rpc_core::{CallError, Error, MethodError, Streaming};
use tokio::time::{Sleep, sleep};

use super::{
    history::{History, now},
    services::ServiceError,
    stream_record::{Direction, Item, ReadEnd, ReaderPlan, SourceEnd, SourcePlan, StreamRecord},
};

/// The items of a stream. `E` is the error with which it may fail.
pub(crate) struct SimSource<E> {
    recorder: Recorder,
    plan: SourcePlan,
    error: fn(u64) -> E,
    next: u32,
    pause: Option<Pin<Box<Sleep>>>,
    /// A stream that the items follow one by one.
    followed: Option<FollowedReader>,
}

/// A stream of a call of one end.
#[derive(Clone)]
pub(crate) struct Recorder {
    history: Arc<History>,
    nonce: u64,
    direction: Direction,
}

/// A reader that a source follows.
struct FollowedReader {
    stream: Streaming<Item>,
    guard: ReaderGuard,
    length: usize,
}

/// Records the end of a reader.
struct ReaderGuard(Recorder);

impl Recorder {
    /// Returns the recorder of a stream of call `nonce`.
    pub(crate) fn new(history: &Arc<History>, nonce: u64, direction: Direction) -> Self {
        Self { history: Arc::clone(history), nonce, direction }
    }

    fn update<T>(&self, update: impl FnOnce(&mut StreamRecord) -> T) -> T {
        self.history.update_stream(self.nonce, self.direction, update)
    }

    /// Returns the number of items that were read.
    pub(crate) fn count_read(&self) -> u32 {
        self.update(|record| record.read)
    }

    fn violated(&self, what: &str) {
        self.history.record_violation(format!("{:?} stream of call {}: {what}", self.direction, self.nonce));
    }

    fn record_item(&self, item: &Item, length: usize) {
        let Item { nonce, number, ref padding } = *item;
        let (expected, has_ended) = self.update(|record| {
            record.read += 1;
            (record.read - 1, record.read_end.is_some())
        });
        if (nonce, number) != (self.nonce, expected) {
            self.violated(&format!("read item {number} of call {nonce} instead of item {expected}"));
        }
        if padding.len() != length || padding.iter().any(|byte| *byte != nonce as u8) {
            self.violated(&format!("item {number} is incomplete"));
        }
        if has_ended {
            self.violated(&format!("read item {number} after the end"));
        }
    }

    fn record_end(&self, end: ReadEnd) {
        if let Some(earlier) = self.update(|record| record.read_end.replace((now(), end))) {
            self.violated(&format!("ended twice, first {earlier:?}"));
        }
    }

    fn reader(&self) -> ReaderGuard {
        self.update(|record| record.has_reader = true);
        ReaderGuard(self.clone())
    }
}

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        self.0.update(|record| {
            record.has_reader = false;
            record.read_end.get_or_insert((now(), ReadEnd::Dropped));
        });
    }
}

impl<E> SimSource<E> {
    /// Returns the items of `plan`; `error` creates the error of a source that fails.
    pub(crate) fn new(recorder: Recorder, plan: SourcePlan, error: fn(u64) -> E) -> Self {
        recorder.update(|record| record.has_source = true);
        Self { recorder, plan, error, next: 0, pause: None, followed: None }
    }

    /// Sends an item for each item of `stream`, which have this length, and ends with it.
    pub(crate) fn following(mut self, stream: Streaming<Item>, reader: &Recorder, length: usize) -> Self {
        self.followed = Some(FollowedReader { stream, guard: reader.reader(), length });
        self
    }

    /// Returns whether the next item may be sent, or how the source ends.
    fn poll_permission(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<SourceEnd>> {
        if self.next == self.plan.count {
            return Poll::Ready(Some(self.plan.end));
        }
        let Some(FollowedReader { stream, guard, length }) = &mut self.followed else { return Poll::Ready(None) };
        Poll::Ready(match ready!(Pin::new(stream).poll_next(cx)) {
            Some(Ok(item)) => {
                guard.0.record_item(&item, *length);
                None
            }
            None => {
                guard.0.record_end(ReadEnd::Complete);
                Some(SourceEnd::Regular)
            }
            Some(Err(error)) => {
                guard.0.record_end(failed(&error));
                Some(SourceEnd::Fails)
            }
        })
    }
}

impl<E> Stream for SimSource<E> {
    type Item = Result<Item, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let nonce = self.recorder.nonce;
        if let Some(end) = ready!(self.poll_permission(cx)) {
            self.recorder.update(|record| record.source_end = Some(end));
            return match end {
                SourceEnd::Regular => Poll::Ready(None),
                SourceEnd::Fails => Poll::Ready(Some(Err((self.error)(nonce)))),
                SourceEnd::Pends => Poll::Pending,
                // Without the panic hook, which would print a message for each.
                SourceEnd::Panics => std::panic::resume_unwind(Box::new("intended panic of a stream")),
            };
        }
        self.recorder.update(|record| record.sent += 1);
        let item = Item { nonce, number: self.next, padding: vec![nonce as u8; self.plan.length] };
        self.next += 1;
        self.pause = (!self.plan.pause.is_zero()).then(|| Box::pin(sleep(self.plan.pause)));
        Poll::Ready(Some(Ok(item)))
    }
}

impl<E> Drop for SimSource<E> {
    fn drop(&mut self) {
        self.recorder.update(|record| record.has_source = false);
    }
}

/// Reads a stream whose items have this length. Returns how it ended.
pub(crate) async fn read<E>(
    mut stream: Streaming<Item, E>,
    recorder: &Recorder,
    plan: &ReaderPlan,
    length: usize,
) -> ReadEnd
where
    E: MethodError,
    E::CallError: Into<ReadEnd>,
{
    let guard = recorder.reader();
    let mut count = 0;
    loop {
        if plan.stops_after == Some(count) {
            drop(stream);
            recorder.record_end(ReadEnd::Dropped);
            return ReadEnd::Dropped;
        }
        let end = match poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await {
            Some(Ok(item)) => {
                recorder.record_item(&item, length);
                count += 1;
                pause(plan.pause).await;
                continue;
            }
            None => ReadEnd::Complete,
            Some(Err(error)) => error.into(),
        };
        recorder.record_end(end.clone());
        if stream.next().await.is_some() {
            recorder.violated("has an element behind its end");
        }
        drop(guard);
        return end;
    }
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

impl From<Error> for ReadEnd {
    fn from(error: Error) -> Self {
        failed(&error)
    }
}

impl From<CallError<ServiceError>> for ReadEnd {
    fn from(error: CallError<ServiceError>) -> Self {
        match error {
            CallError::Service(_) => Self::Service,
            CallError::Rpc(error) => failed(&error),
        }
    }
}

fn failed(error: &Error) -> ReadEnd {
    let source = std::error::Error::source(error).map_or(String::new(), |source| format!(": {source}"));
    ReadEnd::Failed { code: error.code(), text: format!("{error}{source}") }
}
