//! Streams that continue at another provider.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_client::{Client, ClientConfig};
use rpc_core::{Code, HasCursor, Status, Streaming, rpc_service, testing};
use rpc_registry::Memory;
use rpc_server::{Server, ServerBuilder, ServerConfig};
use serde::{Deserialize, Serialize};
use tests::{Task, in_time, serving::Serving};
use tokio::sync::watch;

#[derive(Debug, Serialize, Deserialize)]
struct Tick {
    number: u32,
    /// The provider that sent it.
    provider: usize,
}

impl HasCursor for Tick {
    type Cursor = u32;

    fn cursor(&self) -> u32 {
        self.number
    }
}

#[rpc_service(name = "test.Ticks", version = "1.0")]
trait Ticks {
    /// Returns the ticks up to `LAST`, as far as the test permits; fails with `DataLoss` at tick 13.
    async fn ticks(&self, fails: bool, #[rpc(cursor)] after: Option<u32>) -> Result<Streaming<Tick>, Status>;
}

const LAST: u32 = 30;

#[derive(Clone)]
struct Provider {
    number: usize,
    /// The number of ticks that all providers may send.
    permitted: watch::Receiver<u32>,
    opened: Arc<AtomicUsize>,
}

#[expect(clippy::disallowed_methods, reason = "the tasks end with the streams to which they send")]
impl Ticks for Provider {
    async fn ticks(&self, fails: bool, after: Option<u32>) -> Result<Streaming<Tick>, Status> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let (sender, stream) = Streaming::channel(1);
        let (mut permitted, provider) = (self.permitted.clone(), self.number);
        tokio::spawn(async move {
            for number in after.map_or(0, |after| after + 1)..LAST {
                if fails && number == 13 {
                    return sender.fail(Status::new(Code::DataLoss, "tick 13 is lost"));
                }
                if permitted.wait_for(|permitted| number < *permitted).await.is_err()
                    || sender.send(Tick { number, provider }).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(stream)
    }
}

struct Scene {
    registry: Arc<Memory>,
    permit: watch::Sender<u32>,
    providers: Vec<Option<Serving>>,
    opened: Arc<AtomicUsize>,
    ticks: TicksClient<Client>,
}

impl Scene {
    /// Starts `count` providers.
    async fn new(name: &str, count: usize) -> Self {
        let (registry, permit) = (Arc::new(Memory::named(name)), watch::Sender::new(0));
        let client =
            Client::builder().registry(registry.clone()).config(ClientConfig::default().with_wait_for_ready(true));
        let ticks = TicksClient::new(client.build().unwrap());
        let mut scene = Self { registry, permit, providers: Vec::new(), opened: Arc::default(), ticks };
        for _ in 0..count {
            scene.start().await;
        }
        scene
    }

    async fn start(&mut self) {
        let (number, permitted) = (self.providers.len(), self.permit.subscribe());
        let provider = Provider { number, permitted, opened: Arc::clone(&self.opened) };
        let config = ServerConfig::default().with_drain_notice(Duration::ZERO);
        let server: ServerBuilder =
            Server::builder().registry(self.registry.clone()).service(TicksServer::new(provider)).config(config);
        self.providers.push(Some(Serving::start(server).await));
    }
}

/// Reads the ticks from `from` up to `to`, and returns the providers that sent them.
async fn read(ticks: &mut Streaming<Tick>, from: u32, to: u32) -> Vec<usize> {
    let mut providers = Vec::new();
    for expected in from..to {
        let tick = in_time(ticks.next()).await.unwrap().unwrap();
        assert_eq!(tick.number, expected);
        providers.push(tick.provider);
    }
    providers.dedup();
    providers
}

#[tokio::test]
async fn stream_continues_behind_the_last_item_when_its_provider_dies() {
    let mut scene = Scene::new("resumed", 2).await;
    scene.permit.send_replace(10);
    let mut ticks = in_time(scene.ticks.ticks(false, None).resumable()).await.unwrap();
    let [first] = read(&mut ticks, 0, 10).await[..] else { panic!("one provider sends the first ticks") };
    scene.providers[first].take().unwrap().kill().await;
    scene.permit.send_replace(20);
    assert_eq!(read(&mut ticks, 10, 20).await, [1 - first]);
    // A third provider replaces both.
    scene.start().await;
    scene.providers[1 - first].take().unwrap().kill().await;
    scene.permit.send_replace(LAST);
    assert_eq!(read(&mut ticks, 20, LAST).await, [2]);
    assert!(in_time(ticks.next()).await.is_none());
    assert_eq!(scene.opened.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn stream_moves_at_once_when_its_provider_drains() {
    let mut scene = Scene::new("resumed drain", 2).await;
    scene.permit.send_replace(10);
    let mut ticks = in_time(scene.ticks.ticks(false, None).resumable()).await.unwrap();
    let [first] = read(&mut ticks, 0, 10).await[..] else { panic!("one provider sends the first ticks") };
    let mut draining = scene.providers[first].take().unwrap();
    draining.stop();
    let next = Task::begin(async move { (in_time(ticks.next()).await.unwrap().unwrap().provider, ticks) });
    // The drain ends although the stream is open, because it has moved.
    draining.ended().await.unwrap();
    scene.permit.send_replace(LAST);
    let (provider, mut ticks) = next.end().await;
    assert_eq!(provider, 1 - first);
    read(&mut ticks, 11, LAST).await;
}

#[tokio::test]
async fn draining_provider_is_read_until_another_one_is_ready() {
    let mut scene = Scene::new("resumed late", 1).await;
    scene.permit.send_replace(10);
    let mut ticks = in_time(scene.ticks.ticks(false, None).resumable()).await.unwrap();
    read(&mut ticks, 0, 10).await;
    let mut draining = scene.providers[0].take().unwrap();
    draining.stop();
    // The only provider drains, and goes on sending.
    scene.permit.send_replace(20);
    assert_eq!(read(&mut ticks, 10, 20).await, [0]);
    scene.start().await;
    let rest = Task::begin(async move { read(&mut ticks, 20, LAST).await });
    draining.ended().await.unwrap();
    scene.permit.send_replace(LAST);
    assert_eq!(rest.end().await, [1]);
}

#[tokio::test]
async fn other_errors_end_a_resumable_stream() {
    let scene = Scene::new("resumed error", 1).await;
    scene.permit.send_replace(LAST);
    let mut ticks = in_time(scene.ticks.ticks(true, Some(4)).resumable()).await.unwrap();
    read(&mut ticks, 5, 13).await;
    let error = in_time(ticks.next()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::DataLoss);
    assert!(error.message().contains("up to the cursor 12"), "{error}");
    assert!(in_time(ticks.next()).await.is_none());
}

#[tokio::test]
async fn stream_without_resumption_ends_with_its_provider() {
    let mut scene = Scene::new("not resumed", 2).await;
    scene.permit.send_replace(10);
    let mut ticks = in_time(scene.ticks.ticks(false, None)).await.unwrap();
    let [first] = read(&mut ticks, 0, 10).await[..] else { panic!("one provider sends the first ticks") };
    scene.providers[first].take().unwrap().kill().await;
    assert_eq!(in_time(ticks.next()).await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn failed_first_call_is_the_error_of_the_call() {
    let ticks = TicksClient::new(testing::failing(Code::Unavailable));
    assert_eq!(ticks.ticks(false, None).resumable().await.unwrap_err().code(), Code::Unavailable);
}
