//! Rejections of once calls: a rejection is not the answer of the call, which may execute later.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rpc_core::{
    BoxFuture, Code, Error, Status,
    layer::{IncomingCall, Served, ServerLayer, ServerNext},
};
use rpc_server::{Claim, OnceStore, Server, ServerBuilder};
use tests::{
    ledger::{Clerk, SharedLedgerServer, executions},
    raw_peer::{RawFrame, RawHead, RawPeer},
    serving::Serving,
};
use tokio::sync::Semaphore;

use super::once::SharedStore;

const OK: u8 = 0;
const DEADLINE_EXCEEDED: u8 = 4;
const RESOURCE_EXHAUSTED: u8 = 8;
const ABORTED: u8 = 10;
const UNIMPLEMENTED: u8 = 12;
const UNAVAILABLE: u8 = 14;
const DATA_LOSS: u8 = 15;

/// Number of rejected once calls of which a server keeps a record.
const REJECTED: u32 = 10_000;
const ONCE: &str = "test.Ledger:1.0/enter_once";
const ONCE_OF_ALL: &str = "test.SharedLedger:1.0/enter_once_of_all";

/// A layer that rejects the first call.
#[derive(Default)]
struct RejectFirst(AtomicBool);

impl ServerLayer for RejectFirst {
    async fn serve(&self, _: &IncomingCall, next: ServerNext<'_>) -> Served {
        if self.0.swap(true, Ordering::SeqCst) {
            return next.run().await;
        }
        next.reject_until(Status::new(Code::ResourceExhausted, "this is the first call"), Duration::from_millis(250))
    }
}

/// A store that has damaged bytes for every key, or fails.
struct Broken {
    has_bytes: bool,
}

impl OnceStore for Broken {
    fn claim<'a>(&'a self, _: [u8; 16], _: &'a str) -> BoxFuture<'a, Result<Claim, Error>> {
        let damaged = Claim::Answered(Bytes::from_static(b"damaged"));
        let failed = Error::not_executed(Code::Unavailable, "the database does not answer");
        Box::pin(std::future::ready(if self.has_bytes { Ok(damaged) } else { Err(failed) }))
    }

    fn keep<'a>(&'a self, _: [u8; 16], _: Bytes) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn release(&self, _: [u8; 16]) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Starts a server of both ledgers, which records executions in `clerk`.
async fn serve(builder: ServerBuilder, clerk: &Clerk) -> Serving {
    Serving::start(builder.service(clerk.clone().server()).service(SharedLedgerServer::new(clerk.clone()))).await
}

/// Starts a server without a store, which records executions in `clerk`.
async fn serve_without_store(builder: ServerBuilder, clerk: &Clerk) -> Serving {
    Serving::start(builder.service(clerk.clone().server())).await
}

/// Sends a call with the same key over a new connection.
async fn send(serving: &Serving, route: &str, repeat: bool) -> RawFrame {
    let head = RawHead::route(route).with(RawHead::TIMEOUT, 50_000_u32.to_be_bytes()).with(RawHead::ONCE_KEY, [7; 16]);
    let head = if repeat { head.with(RawHead::REPEAT, [1]) } else { head };
    RawPeer::connect(serving.address()).await.ask(&RawFrame::request(1, &head, r#"{"nonce":1}"#)).await
}

fn assert_rejected_until(answer: &RawFrame) {
    assert_eq!(answer.status().0, RESOURCE_EXHAUSTED, "{answer:?}");
    assert_eq!(answer.entry(RawHead::RETRY_AFTER), Some(&250_u32.to_be_bytes()[..]));
    assert_eq!(answer.entry(RawHead::NOT_EXECUTED), Some(&[][..]));
}

#[tokio::test]
async fn rejected_once_call_executes_when_sent_again() {
    let directory = tempfile::tempdir().unwrap();
    let clerk = Clerk::new(directory.path(), Duration::ZERO);
    let store = SharedStore::default();
    let serving = serve(Server::builder().once_store(store).layer(RejectFirst::default()), &clerk).await;
    assert_rejected_until(&send(&serving, ONCE, false).await);
    assert_eq!(send(&serving, ONCE, false).await.status().0, OK);
    assert_eq!(send(&serving, ONCE, true).await.status().0, OK, "the stored answer");
    assert_eq!(executions(directory.path()).get(&1), Some(&1));
}

#[tokio::test]
async fn rejected_once_call_executes_at_another_server() {
    let directory = tempfile::tempdir().unwrap();
    let clerk = Clerk::new(directory.path(), Duration::ZERO);
    let store = SharedStore::default();
    let limited = serve(Server::builder().once_store(store.clone()).layer(RejectFirst::default()), &clerk).await;
    let other = serve(Server::builder().once_store(store), &clerk).await;
    assert_rejected_until(&send(&limited, ONCE_OF_ALL, false).await);
    assert_eq!(send(&other, ONCE_OF_ALL, false).await.status().0, OK);
    assert_eq!(send(&limited, ONCE_OF_ALL, true).await.status().0, OK, "the stored answer");
    assert_eq!(executions(directory.path()).get(&1), Some(&1));
}

#[tokio::test]
async fn damaged_answer_does_not_deny_the_execution() {
    let directory = tempfile::tempdir().unwrap();
    let clerk = Clerk::new(directory.path(), Duration::ZERO);
    let serving = serve(Server::builder().once_store(Broken { has_bytes: true }), &clerk).await;
    let answer = send(&serving, ONCE_OF_ALL, false).await;
    assert_eq!((answer.status().0, answer.entry(RawHead::NOT_EXECUTED)), (DATA_LOSS, None), "{answer:?}");
}

#[tokio::test]
async fn failed_store_rejects_the_request() {
    let directory = tempfile::tempdir().unwrap();
    let clerk = Clerk::new(directory.path(), Duration::ZERO);
    let serving = serve(Server::builder().once_store(Broken { has_bytes: false }), &clerk).await;
    for repeat in [false, true] {
        let answer = send(&serving, ONCE_OF_ALL, repeat).await;
        assert_eq!(answer.status().0, UNAVAILABLE, "{answer:?}");
        assert_eq!(answer.entry(RawHead::NOT_EXECUTED), Some(&[][..]), "the entry is about this request");
    }
    assert_eq!(executions(directory.path()).get(&1), None);
}

#[tokio::test]
async fn repeat_of_rejected_call_states_that_none_executed() {
    let directory = tempfile::tempdir().unwrap();
    let clerk = Clerk::new(directory.path(), Duration::ZERO);
    let serving = serve_without_store(Server::builder().layer(RejectFirst::default()), &clerk).await;
    assert_eq!(send(&serving, ONCE, true).await.status().0, ABORTED, "the server has no record");
    assert_rejected_until(&send(&serving, ONCE, false).await);
    assert_rejected_until(&send(&serving, ONCE, true).await);
    assert_eq!(executions(directory.path()).get(&1), None);
    assert_eq!(send(&serving, ONCE, false).await.status().0, OK);
    assert_eq!(send(&serving, ONCE, true).await.status().0, OK, "the stored answer");
    assert_eq!(executions(directory.path()).get(&1), Some(&1));
}

#[tokio::test]
async fn repeat_of_unadmitted_call_states_that_none_executed() {
    let directory = tempfile::tempdir().unwrap();
    let clerk = Clerk::new(directory.path(), Duration::ZERO);
    let serving = serve_without_store(Server::builder(), &clerk).await;
    let assert_late = |answer: &RawFrame| {
        assert_eq!(answer.status().0, DEADLINE_EXCEEDED, "{answer:?}");
        assert_eq!(answer.entry(RawHead::NOT_EXECUTED), Some(&[][..]));
    };
    let mut peer = RawPeer::connect(serving.address()).await;
    let mut send = async |id, head: &RawHead| peer.ask(&RawFrame::request(id, head, r#"{"nonce":1}"#)).await;
    let late = |head: RawHead| head.with(RawHead::TIMEOUT, 0_u32.to_be_bytes());
    for (id, tag) in [(10, RawHead::ONCE_KEY), (20, RawHead::IDEMPOTENCY_KEY)] {
        let head = RawHead::route(ONCE).with(tag, [id as u8; 16]);
        assert_late(&send(id, &late(head.clone())).await);
        assert_late(&send(id + 1, &head.with(RawHead::REPEAT, [1])).await);
    }
    // Rejections that a repeat receives anyway use up no records.
    for id in 1000..REJECTED + 1000 {
        let unknown = RawHead::route("test.Ledger:1.0/unknown").with(RawHead::ONCE_KEY, u128::from(id).to_be_bytes());
        assert_eq!(send(id, &unknown).await.status().0, UNIMPLEMENTED);
    }
    let head = RawHead::route(ONCE).with(RawHead::ONCE_KEY, [10; 16]).with(RawHead::REPEAT, [1]);
    assert_late(&send(3, &head).await);
    // A rejected repeat says nothing about earlier requests.
    let repeat = RawHead::route(ONCE).with(RawHead::ONCE_KEY, [9; 16]).with(RawHead::REPEAT, [1]);
    assert_late(&send(1, &late(repeat.clone())).await);
    assert_eq!(send(2, &repeat).await.status().0, ABORTED);
}

/// A store that releases no claim until the test permits it.
#[derive(Clone)]
struct SlowRelease {
    store: SharedStore,
    permits: Arc<Semaphore>,
}

impl OnceStore for SlowRelease {
    fn claim<'a>(&'a self, key: [u8; 16], route: &'a str) -> BoxFuture<'a, Result<Claim, Error>> {
        self.store.claim(key, route)
    }

    fn keep<'a>(&'a self, key: [u8; 16], answer: Bytes) -> BoxFuture<'a, Result<(), Error>> {
        self.store.keep(key, answer)
    }

    fn release(&self, key: [u8; 16]) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let _permit = self.permits.acquire().await;
            self.store.release(key).await
        })
    }
}

#[tokio::test]
async fn rejection_does_not_wait_for_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let clerk = Clerk::new(directory.path(), Duration::ZERO);
    let store = SlowRelease { store: SharedStore::default(), permits: Arc::new(Semaphore::new(0)) };
    let builder = Server::builder().once_store(store.clone()).layer(RejectFirst::default());
    let serving = serve(builder, &clerk).await;
    assert_rejected_until(&send(&serving, ONCE_OF_ALL, false).await);
    store.permits.add_permits(1);
    assert_eq!(send(&serving, ONCE_OF_ALL, false).await.status().0, OK);
    assert_eq!(executions(directory.path()).get(&1), Some(&1));
}
