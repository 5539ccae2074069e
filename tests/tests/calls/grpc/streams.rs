//! Streams in both directions.

use futures_util::stream;
use rpc_core::{Status, Streaming, rpc_service};
use rpc_grpc::Grpc;
use rpc_server::Server;
use serde::{Deserialize, Serialize};
use tests::{in_time, serving::Serving};
use tokio::sync::mpsc;
use tonic::Code;

use super::{Caller, Empty, Number, Text, number, text};

#[derive(Debug, Serialize, Deserialize)]
enum CountError {
    TooFar { limit: u32 },
}

#[rpc_service(name = "test.Numbers", version = "1.0")]
trait Numbers {
    async fn count(&self, to: u32) -> Result<Streaming<u32, CountError>, CountError>;
    async fn sum(&self, numbers: Streaming<u32>) -> Result<u64, Status>;
    async fn scale(&self, by: u32, numbers: Streaming<u32>) -> Streaming<u32>;
    async fn endless(&self) -> Streaming<String>;
}

struct Provider {
    /// Receives the outcome of each stream of [`Numbers::sum`] and [`Numbers::endless`].
    ended: mpsc::Sender<&'static str>,
}

/// Records whether a handler of [`Numbers::sum`] has seen the end of its stream.
struct Outcome {
    ended: mpsc::Sender<&'static str>,
    is_complete: bool,
}

impl Drop for Outcome {
    fn drop(&mut self) {
        self.ended.try_send(if self.is_complete { "complete" } else { "incomplete" }).unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "the tasks end with the streams to which they send")]
impl Numbers for Provider {
    async fn count(&self, to: u32) -> Result<Streaming<u32, CountError>, CountError> {
        if to > 100_000 {
            return Err(CountError::TooFar { limit: 100_000 });
        }
        let (sender, stream) = Streaming::channel(1);
        tokio::spawn(async move {
            for number in 1..=to {
                if sender.send(number).await.is_err() {
                    return;
                }
            }
            if to == 3 {
                sender.fail(CountError::TooFar { limit: 2 });
            }
        });
        Ok(stream)
    }

    async fn sum(&self, mut numbers: Streaming<u32>) -> Result<u64, Status> {
        let mut outcome = Outcome { ended: self.ended.clone(), is_complete: false };
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += u64::from(number?);
        }
        outcome.is_complete = true;
        Ok(sum)
    }

    async fn scale(&self, by: u32, mut numbers: Streaming<u32>) -> Streaming<u32> {
        let (sender, stream) = Streaming::channel(1);
        tokio::spawn(async move {
            while let Some(Ok(number)) = numbers.next().await {
                if sender.send(by * number).await.is_err() {
                    return;
                }
            }
        });
        stream
    }

    async fn endless(&self) -> Streaming<String> {
        let (sender, stream) = Streaming::channel(1);
        let ended = self.ended.clone();
        tokio::spawn(async move {
            while sender.send("a".repeat(1000)).await.is_ok() {}
            ended.send("dropped").await.unwrap();
        });
        stream
    }
}

async fn provide() -> (Serving, Caller, mpsc::Receiver<&'static str>) {
    let (ended, outcomes) = mpsc::channel(8);
    let builder = Server::builder().service(NumbersServer::new(Provider { ended })).endpoint(Grpc::new());
    let serving = Serving::start(builder).await;
    let caller = Caller::connect(serving.address()).await;
    (serving, caller, outcomes)
}

/// A message of a stream of requests.
#[derive(Clone, PartialEq, prost::Message)]
struct Part {
    #[prost(message, optional, tag = "1")]
    arguments: Option<Number>,
    #[prost(uint32, optional, tag = "2")]
    item: Option<u32>,
}

fn arguments(by: u64) -> Part {
    Part { arguments: Some(number(by)), item: None }
}

fn item(item: u32) -> Part {
    Part { arguments: None, item: Some(item) }
}

async fn all<T>(mut items: tonic::Streaming<T>) -> (Vec<T>, Option<tonic::Status>) {
    let mut received = Vec::new();
    loop {
        match in_time(items.message()).await {
            Ok(Some(item)) => received.push(item),
            Ok(None) => return (received, None),
            Err(status) => return (received, Some(status)),
        }
    }
}

const COUNT: &str = "/test.numbers.v1_0.Numbers/Count";
const SUM: &str = "/test.numbers.v1_0.Numbers/Sum";
const SCALE: &str = "/test.numbers.v1_0.Numbers/Scale";
const ENDLESS: &str = "/test.numbers.v1_0.Numbers/Endless";

#[tokio::test]
async fn callee_sends_items_and_ends_with_a_status() {
    let (_serving, grpc, _) = provide().await;
    let (items, end) = all(grpc.items::<_, Number>(COUNT, number(10_000)).await.unwrap()).await;
    assert!(items.into_iter().map(|item| item.value).eq(1..=10_000) && end.is_none());
    let (items, end) = all(grpc.items::<_, Number>(COUNT, number(0)).await.unwrap()).await;
    assert!(items.is_empty() && end.is_none());
    let (items, end) = all(grpc.items::<_, Number>(COUNT, number(3)).await.unwrap()).await;
    let end = end.unwrap();
    assert_eq!((items.len(), end.code(), end.message()), (3, Code::FailedPrecondition, r#"{"TooFar":{"limit":2}}"#));
    let refused = grpc.items::<_, Number>(COUNT, number(100_001)).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::FailedPrecondition, r#"{"TooFar":{"limit":100000}}"#));
}

#[tokio::test]
async fn caller_sends_items() {
    let (_serving, grpc, mut outcomes) = provide().await;
    for (items, sum) in [(vec![item(1), item(2), item(4)], 7), (vec![arguments(0), item(0), item(5)], 5), (vec![], 0)] {
        let (received, end) = all(grpc.both::<_, Number>(SUM, stream::iter(items)).await.unwrap()).await;
        assert_eq!((received, end.map(|end| end.code())), (vec![number(sum)], None));
        assert_eq!(in_time(outcomes.recv()).await, Some("complete"));
    }
    let many = (0..10_000).map(|_| item(1));
    let (received, _) = all(grpc.both::<_, Number>(SUM, stream::iter(many)).await.unwrap()).await;
    assert_eq!(received, [number(10_000)]);
}

#[tokio::test]
async fn malformed_stream_of_the_caller_fails_the_call() {
    let (serving, grpc, mut outcomes) = provide().await;
    let late = vec![item(1), arguments(0)];
    let end = grpc.both::<_, Number>(SUM, stream::iter(late)).await.unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::InvalidArgument, "only the first message may have parameters"));
    let missing = grpc.both::<_, Number>(SCALE, stream::iter([item(1)])).await.unwrap_err();
    assert_eq!(
        (missing.code(), missing.message()),
        (Code::InvalidArgument, "the first message must have the parameters")
    );
    let empty = grpc.both::<_, Number>(SUM, stream::iter([Part::default()])).await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument);
    // A handler that has begun does not see a complete stream.
    drop((serving, grpc));
    while let Some(outcome) = in_time(outcomes.recv()).await {
        assert_eq!(outcome, "incomplete");
    }
}

#[tokio::test]
async fn both_ends_send_items() {
    let (_serving, grpc, _) = provide().await;
    let (sender, parts) = mpsc::channel(1);
    let parts = stream::unfold(parts, async |mut parts| Some((parts.recv().await?, parts)));
    sender.send(arguments(3)).await.unwrap();
    let mut items = grpc.both::<_, Number>(SCALE, parts).await.unwrap();
    for number in 1..=100 {
        sender.send(item(number)).await.unwrap();
        assert_eq!(in_time(items.message()).await.unwrap().unwrap().value, u64::from(3 * number));
    }
    drop(sender);
    assert_eq!(in_time(items.message()).await.unwrap(), None);
}

#[tokio::test]
async fn abandoned_streams_end_at_the_server() {
    let (serving, grpc, mut outcomes) = provide().await;
    let mut items = grpc.items::<_, Text>(ENDLESS, Empty {}).await.unwrap();
    assert_eq!(in_time(items.message()).await.unwrap(), Some(text("a".repeat(1000))));
    drop(items);
    assert_eq!(in_time(outcomes.recv()).await, Some("dropped"));
    let parts = stream::unfold((), async |()| Some((item(1), ())));
    let calling = grpc.clone();
    let call = tests::Task::begin(async move { calling.both::<_, Number>(SUM, parts).await.map(drop) });
    serving.until_counted(|counts| counts.streams > 0).await;
    drop(call);
    assert_eq!(in_time(outcomes.recv()).await, Some("incomplete"));
    serving.until_counted(|counts| counts.streams == 0).await;
}
