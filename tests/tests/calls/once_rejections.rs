//! Rejections of once calls: a rejection is not the answer of the call, which may execute later.

use std::{
    sync::atomic::{AtomicBool, Ordering},
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

use super::once::SharedStore;

const OK: u8 = 0;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNAVAILABLE: u8 = 14;
const DATA_LOSS: u8 = 15;

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
