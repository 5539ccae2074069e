//! Streams of items over sockets: order, ends, errors, flow control, cancellation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rpc_client::Client;
use rpc_core::{
    CallError, Code, Codec, Compression, Context, Delivery, Status, StreamSender, Streaming, rpc_service,
    transport::TransportConfig,
};
use rpc_server::{Server, ServerConfig};
use serde::{Deserialize, Serialize};
use tests::{Task, in_time, serving::Serving};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use crate::caller;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum FeedError {
    Unknown { topic: String },
    Broken,
}

#[rpc_service(name = "test.Feed", version = "1.0")]
trait Feed {
    /// Returns the numbers up to `to`.
    async fn count(&self, to: u32) -> Result<Streaming<u32>, Status>;
    /// Fails at once for the topic "unknown", and after two items for "broken".
    async fn watch(&self, topic: String) -> Result<Streaming<String, FeedError>, FeedError>;
    async fn sum(&self, numbers: Streaming<u32>) -> Result<u64, Status>;
    async fn join(&self, separator: String, texts: Streaming<String>) -> Streaming<String>;
    async fn copy(&self, blobs: Streaming<Bytes>) -> Streaming<Bytes>;
    /// Returns a stream whose sender the test receives.
    async fn open(&self) -> Streaming<Bytes>;
    /// Returns one item when the server drains.
    async fn until_draining(&self) -> Streaming<u32>;
    async fn unary(&self, text: String) -> String;
}

/// The senders of the streams that [`Feed::open`] has returned.
type Opened = Arc<Mutex<mpsc::Receiver<StreamSender<Bytes, Status>>>>;

struct Provider {
    opened: mpsc::Sender<StreamSender<Bytes, Status>>,
}

#[expect(clippy::disallowed_methods, reason = "the tasks end with the streams to which they send")]
impl Feed for Provider {
    async fn count(&self, to: u32) -> Result<Streaming<u32>, Status> {
        Ok((1..=to).collect())
    }

    async fn watch(&self, topic: String) -> Result<Streaming<String, FeedError>, FeedError> {
        if topic == "unknown" {
            return Err(FeedError::Unknown { topic });
        }
        let (sender, stream) = Streaming::channel(1);
        tokio::spawn(async move {
            for number in 0..2 {
                sender.send(format!("{topic} {number}")).await.unwrap();
            }
            sender.fail(FeedError::Broken);
        });
        Ok(stream)
    }

    async fn sum(&self, mut numbers: Streaming<u32>) -> Result<u64, Status> {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += u64::from(number?);
        }
        Ok(sum)
    }

    async fn join(&self, separator: String, mut texts: Streaming<String>) -> Streaming<String> {
        let (sender, stream) = Streaming::channel(4);
        tokio::spawn(async move {
            let mut joined = String::new();
            while let Some(Ok(text)) = texts.next().await {
                joined = if joined.is_empty() { text } else { joined + &separator + &text };
                if sender.send(joined.clone()).await.is_err() {
                    return;
                }
            }
        });
        stream
    }

    async fn copy(&self, blobs: Streaming<Bytes>) -> Streaming<Bytes> {
        blobs
    }

    async fn open(&self) -> Streaming<Bytes> {
        let (sender, stream) = Streaming::channel(1);
        self.opened.send(sender).await.unwrap();
        stream
    }

    async fn until_draining(&self) -> Streaming<u32> {
        let (sender, stream) = Streaming::channel(1);
        let context = Context::current().unwrap();
        tokio::spawn(async move {
            context.draining().await;
            sender.send(7).await.unwrap();
        });
        stream
    }

    async fn unary(&self, text: String) -> String {
        text
    }
}

struct Scene {
    serving: Serving,
    feed: FeedClient<Client>,
    opened: Opened,
}

impl Scene {
    async fn new() -> Self {
        Self::with(ServerConfig::default()).await
    }

    async fn with(config: ServerConfig) -> Self {
        let (opened, receiver) = mpsc::channel(1);
        let server = Server::builder().service(FeedServer::new(Provider { opened })).config(config);
        let serving = Serving::start(server).await;
        Self { serving, feed: FeedClient::new(caller()), opened: Arc::new(Mutex::new(receiver)) }
    }

    /// Returns an open stream and its sender at the provider.
    async fn opened(&self) -> (Streaming<Bytes>, StreamSender<Bytes, Status>) {
        let stream = in_time(self.feed.open().address(self.serving.address())).await.unwrap();
        let sender = self.opened.lock().await.recv().await.unwrap();
        (stream, sender)
    }
}

/// Reads a stream to its regular end.
async fn all<T>(mut stream: Streaming<T>) -> Vec<T> {
    let mut items = Vec::new();
    in_time(async {
        while let Some(item) = stream.next().await {
            items.push(item.unwrap());
        }
    })
    .await;
    items
}

#[tokio::test]
async fn items_arrive_in_order_beyond_the_window() {
    let scene = Scene::new().await;
    for to in [0, 1, 100_000] {
        let stream = scene.feed.count(to).address(scene.serving.address()).await.unwrap();
        assert!(all(stream).await.into_iter().eq(1..=to), "{to}");
    }
    let numbers = (0..100_000).collect::<Streaming<u32>>();
    let sum = in_time(scene.feed.sum(numbers).address(scene.serving.address())).await.unwrap();
    assert_eq!(sum, (0..100_000).sum::<u64>());
}

#[tokio::test]
async fn both_ends_stream_at_the_same_time() {
    let scene = Scene::new().await;
    let (sender, texts) = Streaming::channel(1);
    let mut joined = in_time(scene.feed.join("-".into(), texts).address(scene.serving.address())).await.unwrap();
    for (text, expected) in [("a", "a"), ("b", "a-b"), ("c", "a-b-c")] {
        sender.send(text.to_owned()).await.unwrap();
        assert_eq!(in_time(joined.next()).await.unwrap().unwrap(), expected);
    }
    drop(sender);
    assert!(in_time(joined.next()).await.is_none(), "the end of one stream ends the other");
}

#[tokio::test]
async fn items_round_trip_in_all_codecs_and_compressions() {
    let scene = Scene::new().await;
    let texts: Vec<String> = [0, 1, 2_000, 100_000].map(|length| "x".repeat(length)).into();
    let joined: Vec<String> = texts
        .iter()
        .scan(String::new(), |all, text| {
            *all = if all.is_empty() { text.clone() } else { format!("{all}{text}") };
            Some(all.clone())
        })
        .collect();
    for codec in [Codec::Bincode, Codec::Json, Codec::MessagePack] {
        for &compression in Compression::SUPPORTED {
            let call = scene.feed.join(String::new(), texts.clone().into_iter().collect());
            let call = call.address(scene.serving.address()).codec(codec).compression(compression);
            assert_eq!(all(in_time(call).await.unwrap()).await, joined, "{codec:?} {compression:?}");
        }
    }
}

#[tokio::test]
async fn items_may_be_longer_than_the_window() {
    let scene = Scene::new().await;
    let blobs: Vec<Bytes> = (0..8).map(|byte| vec![byte; 1 << 20].into()).collect();
    let copy = scene.feed.copy(blobs.clone().into_iter().collect()).address(scene.serving.address());
    assert_eq!(all(in_time(copy).await.unwrap()).await, blobs);
}

#[tokio::test]
async fn errors_of_the_service_precede_or_end_the_stream() {
    let scene = Scene::new().await;
    let watch = |topic: &str| scene.feed.watch(topic.to_owned()).address(scene.serving.address());
    let rejected = in_time(watch("unknown")).await.unwrap_err();
    let CallError::Service(error) = rejected else { panic!("{rejected:?}") };
    assert_eq!(error, FeedError::Unknown { topic: "unknown".into() });

    let mut stream = in_time(watch("broken")).await.unwrap();
    for expected in ["broken 0", "broken 1"] {
        assert_eq!(in_time(stream.next()).await.unwrap().unwrap(), expected);
    }
    assert!(matches!(in_time(stream.next()).await, Some(Err(CallError::Service(FeedError::Broken)))));
    assert!(in_time(stream.next()).await.is_none());
}

#[tokio::test]
async fn lost_connection_is_an_error_and_not_an_end() {
    let scene = Scene::new().await;
    let (mut stream, sender) = scene.opened().await;
    sender.send(Bytes::from_static(b"first")).await.unwrap();
    assert_eq!(in_time(stream.next()).await.unwrap().unwrap(), "first");
    scene.serving.kill().await;
    let error = in_time(stream.next()).await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::Unavailable, Delivery::Unknown));
    assert!(in_time(stream.next()).await.is_none());
    in_time(sender.closed()).await;
}

#[tokio::test]
async fn dropped_reader_cancels_the_provider() {
    let scene = Scene::new().await;
    let (stream, sender) = scene.opened().await;
    drop(stream);
    in_time(sender.closed()).await;
    assert_eq!(scene.feed.unary("after".into()).address(scene.serving.address()).await.unwrap(), "after");
}

#[tokio::test]
async fn slow_reader_holds_up_only_its_sender() {
    let mut transport = TransportConfig::default();
    transport.stream_window = 64 << 10;
    let scene = Scene::with(ServerConfig::default().with_transport(transport)).await;
    let (mut stream, sender) = scene.opened().await;
    let item = Bytes::from(vec![7; 1000]);
    let sent = Arc::new(AtomicUsize::new(0));
    let sending = Task::begin({
        let item = item.clone();
        let sent = Arc::clone(&sent);
        async move {
            for _ in 0..1_000 {
                sender.send(item.clone()).await.unwrap();
                sent.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    for _ in 0..100 {
        assert_eq!(scene.feed.unary("x".into()).address(scene.serving.address()).await.unwrap(), "x");
    }
    assert!(sent.load(Ordering::SeqCst) < 100, "64 KiB of 1 MB wait, and two items in the channel");
    for _ in 0..1_000 {
        assert_eq!(in_time(stream.next()).await.unwrap().unwrap(), item);
    }
    sending.end().await;
    assert!(in_time(stream.next()).await.is_none());
}

#[tokio::test]
async fn failed_stream_of_a_caller_fails_its_call() {
    let scene = Scene::new().await;
    let (sender, numbers) = Streaming::channel(2);
    sender.send(1).await.unwrap();
    sender.fail(Status::new(Code::DataLoss, "the disk is broken"));
    let error = in_time(scene.feed.sum(numbers).address(scene.serving.address())).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::DataLoss, Delivery::Unknown));
    assert!(error.message().contains("the disk is broken"), "{error}");
}

#[tokio::test]
async fn panicking_sender_does_not_end_the_stream_regularly() {
    let scene = Scene::new().await;
    let (mut stream, sender) = scene.opened().await;
    let mut task = JoinSet::new();
    task.spawn(async move {
        let _sender = sender;
        panic!("the producer panics");
    });
    assert!(in_time(task.join_next()).await.unwrap().is_err());
    assert_eq!(in_time(stream.next()).await.unwrap().unwrap_err().code(), Code::Internal);
}

#[tokio::test]
async fn accepted_stream_has_no_deadline() {
    struct Deadlines;
    #[rpc_service(name = "test.Deadlines", version = "1.0")]
    trait Deadline {
        async fn deadlines(&self) -> Streaming<bool>;
    }
    impl Deadline for Deadlines {
        async fn deadlines(&self) -> Streaming<bool> {
            let before = Context::current().unwrap().deadline().is_some();
            let mut values = vec![before];
            Streaming::from_stream(futures_util::stream::poll_fn(move |_| {
                let value = values.pop().map(|before| before && Context::current().unwrap().deadline().is_none());
                std::task::Poll::Ready(value.map(Ok))
            }))
        }
    }
    let serving = Serving::start(Server::builder().service(DeadlineServer::new(Deadlines))).await;
    let stream = DeadlineClient::new(caller()).deadlines().address(serving.address()).await.unwrap();
    assert_eq!(all(stream).await, [true]);
    assert_eq!(all(DeadlineClient::local(Deadlines).deadlines().await.unwrap()).await, [true]);
}

#[tokio::test]
async fn stream_timeout_of_a_method_or_a_call_ends_its_stream() {
    struct Endless;
    #[rpc_service(name = "test.Endless", version = "1.0")]
    trait Endlessness {
        #[rpc(stream_timeout = "20ms")]
        async fn endless(&self) -> Streaming<u8>;
    }
    impl Endlessness for Endless {
        async fn endless(&self) -> Streaming<u8> {
            Streaming::from_stream(futures_util::stream::pending())
        }
    }
    let serving = Serving::start(Server::builder().service(EndlessnessServer::new(Endless))).await;
    let remote = EndlessnessClient::new(caller());
    let local = EndlessnessClient::local(Endless);
    let limit = Duration::from_millis(10);
    let streams = [
        remote.endless().address(serving.address()).await.unwrap(),
        remote.endless().stream_timeout(limit).address(serving.address()).await.unwrap(),
        local.endless().await.unwrap(),
        local.endless().stream_timeout(limit).await.unwrap(),
    ];
    for mut stream in streams {
        assert_eq!(in_time(stream.next()).await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
        assert!(in_time(stream.next()).await.is_none());
    }
}

#[tokio::test]
async fn acceptance_and_end_have_metadata_of_their_own() {
    struct Marks;
    #[rpc_service(name = "test.Marked", version = "1.0")]
    trait Marked {
        async fn marked(&self) -> Streaming<u8>;
    }
    impl Marked for Marks {
        async fn marked(&self) -> Streaming<u8> {
            Context::current().unwrap().insert_response_metadata("at", "acceptance").unwrap();
            Streaming::from_stream(futures_util::stream::poll_fn(move |_| {
                Context::current().unwrap().insert_response_metadata("at", "end").unwrap();
                std::task::Poll::Ready(Some(Err(Status::new(Code::DataLoss, "the disk is broken"))))
            }))
        }
    }
    let serving = Serving::start(Server::builder().service(MarkedServer::new(Marks))).await;
    let remote = MarkedClient::new(caller()).marked().address(serving.address()).with_response_metadata();
    let local = MarkedClient::local(Marks).marked().with_response_metadata();
    for (stream, metadata) in [in_time(remote).await, in_time(local).await] {
        assert!(metadata.iter().eq([("at", &b"acceptance"[..])]));
        let error = in_time(stream.unwrap().next()).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::DataLoss);
        assert!(error.metadata().iter().eq([("at", &b"end"[..])]), "{error:?}");
    }
}

#[tokio::test]
async fn failed_stream_of_a_caller_fails_its_local_call() {
    let (opened, _receiver) = mpsc::channel(1);
    let feed = FeedClient::local(Provider { opened });
    let failing = || {
        let (sender, numbers) = Streaming::channel(2);
        sender.fail(Status::new(Code::DataLoss, "the disk is broken"));
        numbers
    };
    let error = in_time(feed.sum(failing())).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::DataLoss, Delivery::Unknown));
    assert!(error.message().contains("the disk is broken"), "{error}");
    // The handler returns before it has read the failure.
    let (sender, blobs) = Streaming::channel(1);
    let mut copied = in_time(feed.copy(blobs)).await.unwrap();
    sender.fail(Status::new(Code::DataLoss, "the disk is broken"));
    let error = in_time(copied.next()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::DataLoss);
    assert!(in_time(copied.next()).await.is_none());
}

#[tokio::test]
async fn local_calls_stream_like_remote_ones() {
    let (opened, _receiver) = mpsc::channel(1);
    let feed = FeedClient::local(Provider { opened });
    assert!(all(feed.count(1_000).await.unwrap()).await.into_iter().eq(1..=1_000));
    assert_eq!(feed.sum((0..10).collect()).await.unwrap(), 45);
    let joined = feed.join("+".into(), ["a".to_owned(), "b".to_owned()].into_iter().collect()).await.unwrap();
    assert_eq!(all(joined).await, ["a", "a+b"]);
    let mut broken = feed.watch("broken".into()).await.unwrap();
    for _ in 0..2 {
        broken.next().await.unwrap().unwrap();
    }
    assert!(matches!(broken.next().await, Some(Err(CallError::Service(FeedError::Broken)))));
    let error = feed.watch("unknown".into()).await.unwrap_err();
    assert!(matches!(error, CallError::Service(FeedError::Unknown { .. })));
}

#[tokio::test]
async fn handler_ends_its_stream_when_the_server_drains() {
    let mut scene = Scene::new().await;
    let stream = scene.feed.until_draining().address(scene.serving.address()).await.unwrap();
    assert_eq!(scene.serving.handle().counts().streams, 1);
    scene.serving.stop();
    assert_eq!(all(stream).await, [7]);
    scene.serving.ended().await.unwrap();
    assert_eq!(scene.serving.handle().counts().streams, 0);
}

#[tokio::test]
async fn open_stream_ends_with_unavailable_at_the_drain_timeout() {
    let mut scene = Scene::with(ServerConfig::default().with_drain_timeout(Duration::from_millis(50))).await;
    let (mut stream, sender) = scene.opened().await;
    scene.serving.stop();
    let error = in_time(stream.next()).await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::Unavailable, Delivery::Answered));
    assert!(error.message().contains("drain_timeout"), "{error}");
    in_time(sender.closed()).await;
    scene.serving.ended().await.unwrap();
}
