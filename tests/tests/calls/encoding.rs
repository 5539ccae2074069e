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
use rpc_core::{Code, Compression, rpc_service};
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
