//! Once calls: one server executes each once by its stored answers, several servers by a shared store.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use rpc_client::{Client, ClientConfig};
use rpc_core::{BoxFuture, Code, Delivery, Error};
use rpc_server::{Claim, OnceStore, Server};
use tests::{
    Task,
    branch::{Branch, client_of},
    in_time,
    ledger::{Clerk, LedgerClient, SharedLedgerClient, SharedLedgerServer, executions},
    relay::Mode,
};
use tokio::task::JoinSet;

/// Timeout far longer than a call needs.
const LONG: Duration = Duration::from_secs(40);

/// Returns the number of executions of a call.
fn execution_count(directory: &Path, nonce: u64) -> usize {
    executions(directory).get(&nonce).copied().unwrap_or(0)
}

/// Waits until a handler has started to execute a call.
async fn until_executed(directory: &Path, nonce: u64) {
    in_time(async {
        while execution_count(directory, nonce) == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Returns a ledger directory, a branch that records there, and a client of the branch.
async fn scene(longest: Duration) -> (tempfile::TempDir, Branch, LedgerClient<Client>) {
    let directory = tempfile::tempdir().unwrap();
    let branch = Branch::open(directory.path(), longest).await;
    let client = client_of(&[&branch], ClientConfig::default()).await;
    (directory, branch, LedgerClient::new(client))
}

#[tokio::test]
async fn retry_of_lost_answer_returns_stored_answer() {
    let (directory, branch, ledger) = scene(Duration::ZERO).await;
    branch.relay.set(Mode::CutAnswersAfter(0)).await;
    let call = Task::begin(ledger.enter_once(1).timeout(LONG).explain());
    until_executed(directory.path(), 1).await;
    branch.relay.until(|count| count.open == 0).await;
    branch.relay.set(Mode::Pass).await;
    let (outcome, explanation) = call.end().await;
    assert_eq!(outcome.unwrap().nonce, 1, "{explanation}");
    let attempts: Vec<_> = explanation.attempts.iter().map(|attempt| attempt.address).collect();
    assert_eq!(attempts, [branch.address(); 2], "{explanation}");
    assert_eq!(execution_count(directory.path(), 1), 1);
}

#[tokio::test]
async fn retry_waits_for_running_once_call() {
    let (directory, branch, ledger) = scene(Duration::from_secs(4)).await;
    let call = Task::begin(ledger.enter_once(1).timeout(LONG));
    until_executed(directory.path(), 1).await;
    branch.relay.cut();
    assert_eq!(call.end().await.unwrap().nonce, 1);
    assert_eq!(execution_count(directory.path(), 1), 1);
}

#[tokio::test]
async fn restarted_server_aborts_repeated_once_call() {
    let (directory, mut branch, ledger) = scene(Duration::ZERO).await;
    branch.relay.set(Mode::CutAnswersAfter(0)).await;
    let call = Task::begin(ledger.enter_once(1).timeout(LONG));
    until_executed(directory.path(), 1).await;
    branch.relay.set(Mode::Refuse).await;
    branch.kill().await;
    branch.replace().await;
    branch.relay.set(Mode::Pass).await;
    let error = call.end().await.unwrap_err();
    assert_eq!((error.code(), error.delivery()), (Code::Aborted, Delivery::Unknown), "{error:?}");
    assert_eq!(execution_count(directory.path(), 1), 1);
    // The new server serves other calls.
    assert_eq!(ledger.enter_once(2).wait_for_ready(true).timeout(LONG).await.unwrap().nonce, 2);
}

#[tokio::test]
async fn once_call_to_dead_server_ends_at_its_timeout() {
    let (directory, branch, ledger) = scene(Duration::ZERO).await;
    let other = Branch::open(directory.path(), Duration::ZERO).await;
    branch.relay.set(Mode::CutAnswersAfter(0)).await;
    let call = Task::begin(ledger.enter_once(1).timeout(Duration::from_secs(3)));
    until_executed(directory.path(), 1).await;
    branch.relay.set(Mode::Refuse).await;
    let error = call.end().await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::Unknown, "{error:?}");
    assert_eq!(execution_count(directory.path(), 1), 1);
    drop(other);
}

#[tokio::test]
async fn unsent_once_call_moves_to_another_server() {
    let directory = tempfile::tempdir().unwrap();
    let (gone, healthy) =
        (Branch::open(directory.path(), Duration::ZERO).await, Branch::open(directory.path(), Duration::ZERO).await);
    let client = client_of(&[&gone, &healthy], ClientConfig::default()).await;
    let ledger = LedgerClient::new(client);
    gone.relay.set(Mode::Refuse).await;
    gone.relay.until(|count| count.open == 0).await;
    for nonce in 1..=20 {
        // The outcome of a call sent before the client noticed the break is unknown to the client.
        match ledger.enter_once(nonce).timeout(Duration::from_secs(2)).await {
            Ok(receipt) => assert_eq!(receipt.address, Some(healthy.behind())),
            Err(error) => assert_eq!(error.delivery(), Delivery::Unknown, "{error:?}"),
        }
        assert!(execution_count(directory.path(), nonce) <= 1);
    }
    assert_eq!(ledger.enter_once(21).await.unwrap().address, Some(healthy.behind()));
}

#[tokio::test]
async fn drain_answers_running_calls_before_server_ends() {
    let (directory, mut branch, ledger) = scene(Duration::from_secs(5)).await;
    let mut calls = JoinSet::new();
    for nonce in 1..=12 {
        let (once, plain) = (ledger.enter_once(nonce), ledger.enter(100 + nonce));
        calls.spawn(once.timeout(LONG));
        calls.spawn(plain.timeout(LONG));
    }
    for nonce in 1..=12 {
        until_executed(directory.path(), nonce).await;
        until_executed(directory.path(), 100 + nonce).await;
    }
    branch.stop();
    let failed: Vec<_> = in_time(calls.join_all()).await.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{} of 24 failed, the first: {:#?}", failed.len(), failed[0]);
    branch.ended().await;
}

/// A store in memory that several servers share.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedStore(Arc<Mutex<HashMap<[u8; 16], Option<Bytes>>>>);

impl OnceStore for SharedStore {
    fn claim<'a>(&'a self, key: [u8; 16], _: &'a str) -> BoxFuture<'a, Result<Claim, Error>> {
        Box::pin(async move {
            let mut claimed = true;
            let mut answers = self.0.lock().unwrap();
            let answer = answers.entry(key).or_insert_with(|| {
                claimed = false;
                None
            });
            Ok(match answer {
                Some(answer) => Claim::Answered(answer.clone()),
                None if claimed => Claim::Running,
                None => Claim::First,
            })
        })
    }

    fn keep<'a>(&'a self, key: [u8; 16], answer: Bytes) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.0.lock().unwrap().insert(key, Some(answer));
            Ok(())
        })
    }

    fn release(&self, key: [u8; 16]) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.0.lock().unwrap().remove(&key);
            Ok(())
        })
    }
}

/// Starts two servers that share a store, and a client of both.
async fn cluster(directory: &Path, longest: Duration) -> (Branch, Branch, SharedLedgerClient<Client>) {
    let store = SharedStore::default();
    let shared = || SharedLedgerServer::new(Clerk::new(directory, longest));
    let builder = || Server::builder().once_store(store.clone()).service(shared());
    let one = Branch::open_with(directory, longest, builder()).await;
    let other = Branch::open_with(directory, longest, builder()).await;
    let client = client_of(&[&one, &other], ClientConfig::default()).await;
    let ledger = SharedLedgerClient::new(client);
    // The client resolves the service before the test injects faults.
    ledger.enter_once_of_all(0).timeout(LONG).await.unwrap();
    (one, other, ledger)
}

/// Makes concurrent calls while the answers of `broken` fail with `mode`; returns how many calls had several attempts.
async fn call_past(broken: &Branch, mode: Mode, ledger: &SharedLedgerClient<Client>, directory: &Path) -> usize {
    broken.relay.set(mode).await;
    let mut calls = JoinSet::new();
    for nonce in 1..=16 {
        calls.spawn(ledger.enter_once_of_all(nonce).timeout(Duration::from_secs(9)).explain());
    }
    let mut repeated = 0;
    for (outcome, explanation) in in_time(calls.join_all()).await {
        outcome.unwrap_or_else(|error| panic!("{error:?} {explanation}"));
        repeated += usize::from(explanation.attempts.len() > 1);
    }
    for nonce in 1..=16 {
        assert_eq!(execution_count(directory, nonce), 1);
    }
    repeated
}

#[tokio::test]
async fn shared_store_executes_hedged_call_once() {
    let directory = tempfile::tempdir().unwrap();
    let (unresponsive, _other, ledger) = cluster(directory.path(), Duration::ZERO).await;
    assert!(call_past(&unresponsive, Mode::HoldAnswers, &ledger, directory.path()).await > 0);
}

#[tokio::test]
async fn shared_store_executes_retried_call_once() {
    let directory = tempfile::tempdir().unwrap();
    let (broken, _other, ledger) = cluster(directory.path(), Duration::from_millis(50)).await;
    assert!(call_past(&broken, Mode::CutAnswersAfter(0), &ledger, directory.path()).await > 0);
}

#[tokio::test]
async fn shared_store_reports_unknown_after_server_crash() {
    let directory = tempfile::tempdir().unwrap();
    let (mut one, mut other, ledger) = cluster(directory.path(), Duration::from_secs(30)).await;
    let call = Task::begin(ledger.enter_once_of_all(1).timeout(Duration::from_secs(4)));
    until_executed(directory.path(), 1).await;
    // Kills the server that executes the call; the other server waits for an answer that never arrives.
    let one_executes = one.relay.count().sent > other.relay.count().sent;
    if one_executes {
        one.kill().await
    } else {
        other.kill().await
    }
    let error = call.end().await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::Unknown, "{error:?}");
    assert_eq!(execution_count(directory.path(), 1), 1);
}
