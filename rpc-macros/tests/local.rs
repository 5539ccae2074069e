//! The guarantees of a contract, tested with `GreeterClient::local`.

use std::{
    future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_core::{Call, CallError, Code, Context, Delivery, Error, Local, rpc_service};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
enum GreetError {
    #[error("the name is empty")]
    EmptyName,
}

#[rpc_service(name = "demo.Greeter", version = "1.0")]
trait Greeter {
    #[rpc(idempotent, timeout = "500ms")]
    async fn hello(&self, name: String) -> Result<String, GreetError>;
    async fn add(&self, left: u32, right: u32) -> u32;
    async fn nothing(&self);
    #[rpc(one_way)]
    async fn count(&self, by: usize);
    #[rpc(timeout = "200ms")]
    async fn hang(&self) -> bool;
    #[rpc(one_way, timeout = "200ms")]
    async fn hang_one_way(&self);
    async fn shout(&self, mut name: String) -> Result<String, GreetError> {
        if name.is_empty() {
            return Err(GreetError::EmptyName);
        }
        name.make_ascii_uppercase();
        let greeting = self.hello(name).await?;
        Ok(greeting + "!")
    }
}

#[derive(Default)]
struct Polite {
    count: AtomicUsize,
    dropped: AtomicUsize,
}

struct CountDrop<'a>(&'a AtomicUsize);

impl Drop for CountDrop<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Greeter for Polite {
    async fn hello(&self, name: String) -> Result<String, GreetError> {
        if name.is_empty() { Err(GreetError::EmptyName) } else { Ok(format!("hello, {name}")) }
    }

    async fn add(&self, left: u32, right: u32) -> u32 {
        tokio::task::yield_now().await;
        left + right
    }

    async fn nothing(&self) {}

    async fn count(&self, by: usize) {
        self.count.fetch_add(by, Ordering::SeqCst);
    }

    async fn hang(&self) -> bool {
        let _dropped = CountDrop(&self.dropped);
        future::pending().await
    }

    async fn hang_one_way(&self) {
        future::pending().await
    }
}

fn shared() -> (Arc<Polite>, GreeterClient<Local<GreeterServer<Polite>>>) {
    let polite = Arc::new(Polite::default());
    let client = GreeterClient::new(Local::new(GreeterServer::from_arc(Arc::clone(&polite))));
    (polite, client)
}

#[tokio::test]
async fn call_returns_the_result() {
    let greeter = GreeterClient::local(Polite::default());
    assert_eq!(greeter.hello("Bo".into()).await.unwrap(), "hello, Bo");
    let sum: Result<u32, Error> = greeter.add(1, 2).await;
    assert_eq!(sum.unwrap(), 3);
    let nothing: Result<(), Error> = greeter.nothing().await;
    nothing.unwrap();
}

#[tokio::test]
async fn call_returns_the_error_of_the_service() {
    let greeter = GreeterClient::local(Polite::default());
    let error = greeter.hello(String::new()).await.unwrap_err();
    assert!(matches!(error, CallError::Service(GreetError::EmptyName)), "{error:?}");
}

#[tokio::test]
async fn default_body_is_executed() {
    let greeter = GreeterClient::local(Polite::default());
    assert_eq!(greeter.shout("Bo".into()).await.unwrap(), "hello, BO!");
    let error = greeter.shout(String::new()).await.unwrap_err();
    assert!(matches!(error, CallError::Service(GreetError::EmptyName)), "{error:?}");
}

#[tokio::test]
async fn one_way_call_is_executed_without_answer() {
    let (polite, greeter) = shared();
    let sent: Result<(), Error> = greeter.count(3).await;
    sent.unwrap();
    assert_eq!(polite.count.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn timeout_of_the_call_overrides_that_of_the_method() {
    let (polite, greeter) = shared();
    for (call, time) in [(greeter.hang(), 200), (greeter.hang().timeout(Duration::from_secs(3)), 3000)] {
        let start = Instant::now();
        let error = call.await.unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        assert_eq!(error.delivery(), Delivery::Unknown);
        assert_eq!(start.elapsed().as_millis(), time);
    }
    assert_eq!(polite.dropped.load(Ordering::SeqCst), 2, "both handlers are dropped");
    assert!(greeter.hang_one_way().await.unwrap_err().is_timeout());
}

#[tokio::test(start_paused = true)]
async fn dropped_call_drops_its_handler() {
    let (polite, greeter) = shared();
    tokio::time::timeout(Duration::from_millis(10), greeter.hang()).await.unwrap_err();
    assert_eq!(polite.dropped.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn call_that_is_not_awaited_is_not_sent() {
    let (polite, greeter) = shared();
    drop(greeter.count(1));
    assert_eq!(polite.count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn clones_share_the_service_across_tasks() {
    let (polite, greeter) = shared();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let greeter = greeter.clone();
        tasks.spawn(async move { greeter.count(1).await });
    }
    while let Some(sent) = tasks.join_next().await {
        sent.unwrap().unwrap();
    }
    assert_eq!(polite.count.load(Ordering::SeqCst), 8);
}

/// A struct with a field of the type of a call.
struct Waiting<C: rpc_core::Caller> {
    call: Call<C, greeter_methods::Add>,
}

#[tokio::test]
async fn call_types_can_be_named() {
    let greeter = GreeterClient::local(Polite::default());
    let waiting = Waiting { call: greeter.add(20, 22) };
    assert_eq!(waiting.call.await.unwrap(), 42);
}

#[rpc_service]
trait Relay {
    async fn remaining(&self) -> Option<Duration>;
    async fn relay(&self) -> Option<Duration>;
    async fn tenant(&self) -> Option<String>;
    async fn trace(&self) -> Option<String>;
}

/// Forwards calls to another service.
struct Forwarder<C>(C);

struct Backend;

impl<C: rpc_core::Caller> Relay for Forwarder<C> {
    async fn remaining(&self) -> Option<Duration> {
        Context::current()?.remaining()
    }

    async fn relay(&self) -> Option<Duration> {
        // Without inheritance, this call would have the default timeout of five seconds.
        RelayClient::new(self.0.clone()).remaining().await.ok()?
    }

    async fn tenant(&self) -> Option<String> {
        Context::current()?.metadata().get("tenant").map(str::to_owned)
    }

    async fn trace(&self) -> Option<String> {
        RelayClient::new(self.0.clone()).trace().await.ok()?
    }
}

impl Relay for Backend {
    async fn remaining(&self) -> Option<Duration> {
        Context::current()?.remaining()
    }

    async fn relay(&self) -> Option<Duration> {
        None
    }

    async fn tenant(&self) -> Option<String> {
        None
    }

    async fn trace(&self) -> Option<String> {
        let context = Context::current()?;
        assert_eq!(context.metadata().get("tenant"), None, "handlers inherit only the trace");
        context.metadata().get("traceparent").map(str::to_owned)
    }
}

fn relay() -> RelayClient<impl rpc_core::Caller> {
    RelayClient::local(Forwarder(Local::new(RelayServer::new(Backend))))
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_handler_inherit_its_deadline() {
    let relay = relay();
    let second = Duration::from_secs(1);
    assert_eq!(relay.remaining().timeout(second).await.unwrap(), Some(second));
    assert_eq!(relay.relay().timeout(second).await.unwrap(), Some(second));
    assert!(Context::current().is_none());
}

#[tokio::test]
async fn calls_of_a_handler_inherit_its_trace() {
    let relay = relay();
    assert_eq!(relay.tenant().metadata("tenant", "a").await.unwrap().as_deref(), Some("a"));
    let trace = relay.trace().metadata("tenant", "a").metadata("traceparent", "00-1-2-03").await.unwrap();
    assert_eq!(trace.as_deref(), Some("00-1-2-03"));
}

#[tokio::test]
async fn call_of_another_contract_is_unimplemented() {
    let relay = RelayClient::new(Local::new(GreeterServer::new(Polite::default())));
    let error = relay.tenant().await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    assert_eq!(error.delivery(), Delivery::NotExecuted);
}
