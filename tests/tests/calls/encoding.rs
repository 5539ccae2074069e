//! User code that encodes a value runs under no lock: it may take long, make calls, and delays no other call.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::Duration,
};

use rpc_client::Client;
use rpc_core::{Code, Codec, Compression, rpc_service};
use rpc_server::Server;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tests::{Task, in_time, serving::Serving};
use tokio::{
    runtime::Handle,
    task::{JoinSet, yield_now},
};

/// A value whose `Serialize` runs the code of a test.
#[derive(Clone)]
struct Hook(Arc<dyn Fn() + Send + Sync>);

impl Hook {
    fn new(run: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(run))
    }

    /// Returns a hook that blocks until the sender sends, and a receiver that reports when it blocks.
    fn blocking() -> (Self, SyncSender<()>, Receiver<()>) {
        let (release, released) = sync_channel(1);
        let (begin, begun) = sync_channel(1);
        let released = Mutex::new(released);
        let hook = Self::new(move || {
            let _ = begin.try_send(());
            // The limit ends a test that fails, whose runtime would otherwise wait for this thread.
            let waited = released.lock().unwrap().recv_timeout(Duration::from_secs(20));
            assert_ne!(waited, Err(RecvTimeoutError::Timeout), "another call waits for this value");
        });
        (hook, release, begun)
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

impl Serialize for Hook {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.0)();
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Hook {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer).map(|()| Self::new(|| ()))
    }
}

#[rpc_service(name = "test.Hooks", version = "1.0")]
trait Hooks {
    async fn take(&self, hook: Hook) -> u8;
    async fn give(&self) -> Hook;
    async fn echo(&self, text: String) -> String;
    async fn never(&self);
}

#[derive(Debug, Clone)]
struct Keeper(Hook);

impl Hooks for Keeper {
    async fn take(&self, _: Hook) -> u8 {
        7
    }

    async fn give(&self) -> Hook {
        // The first poll of a handler occupies its connection; a later one does not.
        yield_now().await;
        self.0.clone()
    }

    async fn echo(&self, text: String) -> String {
        text
    }

    async fn never(&self) {
        std::future::pending().await
    }
}

async fn serve(hook: Hook) -> (Serving, HooksClient<Client>, SocketAddr) {
    let serving = Serving::start(Server::builder().service(HooksServer::new(Keeper(hook)))).await;
    let address = serving.address();
    (serving, HooksClient::new(super::caller()), address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slow_serialize_delays_no_other_call() {
    let (_serving, client, address) = serve(Hook::new(|| ())).await;
    assert_eq!(in_time(client.echo("x".into()).address(address)).await.unwrap(), "x");
    let (hook, release, begun) = Hook::blocking();
    let slow = Task::begin(client.take(hook).address(address).timeout(Duration::from_secs(60)));
    in_time(tokio::task::spawn_blocking(move || begun.recv())).await.unwrap().unwrap();
    assert_eq!(in_time(client.echo("y".into()).address(address)).await.unwrap(), "y");
    let error = in_time(client.never().address(address).timeout(Duration::from_millis(20))).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
    release.send(()).unwrap();
    assert_eq!(slow.end().await.unwrap(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slow_result_delays_no_other_call() {
    let (hook, release, begun) = Hook::blocking();
    let (_serving, client, address) = serve(hook).await;
    let slow = Task::begin(client.give().address(address).timeout(Duration::from_secs(60)));
    in_time(tokio::task::spawn_blocking(move || begun.recv())).await.unwrap().unwrap();
    assert_eq!(in_time(client.echo("y".into()).address(address)).await.unwrap(), "y");
    release.send(()).unwrap();
    slow.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn serialize_may_call_the_same_client() {
    let (_serving, client, address) = serve(Hook::new(|| ())).await;
    let (inner, runtime) = (client.clone(), Handle::current());
    let hook = Hook::new(move || {
        let call = inner.echo("inner".into()).address(address);
        let answer = tokio::task::block_in_place(|| runtime.block_on(in_time(call)));
        assert_eq!(answer.unwrap(), "inner");
    });
    for compression in [Compression::None, Compression::Gzip] {
        let call = client.take(hook.clone()).address(address).compression(compression);
        assert_eq!(Task::begin(call).end().await.unwrap(), 7);
    }
}

#[tokio::test]
async fn panic_in_serialize_leaves_the_connection_usable() {
    let (_serving, client, address) = serve(Hook::new(|| panic!("a user's Serialize"))).await;
    let call = client.take(Hook::new(|| panic!("a user's Serialize"))).address(address);
    let mut calls = JoinSet::new();
    calls.spawn(call.into_future());
    assert!(in_time(calls.join_next()).await.unwrap().unwrap_err().is_panic());
    let error = in_time(client.give().address(address)).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal, "{error:?}");
    assert_eq!(in_time(client.echo("y".into()).address(address)).await.unwrap(), "y");
}

#[tokio::test]
async fn deadline_that_passes_during_serialize_sends_nothing() {
    let (_serving, client, address) = serve(Hook::new(|| ())).await;
    let hook = Hook::new(|| std::thread::sleep(Duration::from_millis(30)));
    let call = client.take(hook).address(address).timeout(Duration::from_millis(10));
    let error = in_time(call).await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::DeadlineExceeded, rpc_core::Delivery::NotExecuted));
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    items: Vec<Item>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Item {
    price: Price,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<Option<u8>>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(untagged)]
enum Price {
    Exact(f64),
}

#[rpc_service(name = "test.Orders", version = "1.0")]
trait Orders {
    async fn place(&self, order: Order) -> u8;
    async fn last(&self, note: Option<u8>) -> Order;
}

#[derive(Debug)]
struct Shop;

impl Orders for Shop {
    async fn place(&self, _: Order) -> u8 {
        1
    }

    async fn last(&self, note: Option<u8>) -> Order {
        order(7.0, note.map(Some))
    }
}

fn order(price: f64, note: Option<Option<u8>>) -> Order {
    Order { items: vec![Item { price: Price::Exact(price), note }] }
}

#[tokio::test]
async fn codec_errors_name_route_field_type_and_fix() {
    let serving = Serving::start(Server::builder().service(OrdersServer::new(Shop))).await;
    let (client, address) = (OrdersClient::new(super::caller()), serving.address());
    let place = async |order, codec| in_time(client.place(order).address(address).codec(codec)).await.unwrap_err();
    let cases = [
        (place(order(7.0, None), Codec::Bincode).await, "items[].note`: ", "remove the attribute"),
        (place(order(7.0, Some(Some(1))), Codec::Bincode).await, "items[].price` of type `", "use codec json or"),
        (place(order(f64::NAN, None), Codec::Json).await, "items[].price` of type `", "use codec bincode"),
        (place(order(7.0, Some(None)), Codec::MessagePack).await, "items[].note` of type `", "use codec bincode"),
    ];
    for (error, field, fix) in cases {
        let message = error.message();
        assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
        assert!(message.starts_with("arguments of test.Orders:1.0/place: "), "{message}");
        assert!(message.contains(&format!("`order.{field}")) && message.contains(fix), "{message}");
    }
    assert_eq!(in_time(client.place(order(7.0, None)).address(address).codec(Codec::Json)).await.unwrap(), 1);

    let last = async |note| in_time(client.last(note).address(address)).await.unwrap_err();
    let error = last(Some(1)).await;
    assert_eq!(error.code(), Code::Internal, "{error:?}");
    assert!(error.message().starts_with("test.Orders:1.0/last: the response does not decode: "), "{error:?}");
    assert!(error.message().contains("`items[].price` of type `"), "{error:?}");
    let error = last(None).await;
    assert_eq!(error.code(), Code::Internal, "{error:?}");
    assert!(error.message().contains("`items[].note`: "), "{error:?}");
}
