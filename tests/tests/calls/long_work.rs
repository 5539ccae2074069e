//! Payloads that take long to decode and results that take long to compress.

use std::{
    num::NonZero,
    sync::{Condvar, Mutex},
    thread::available_parallelism,
    time::Duration,
};

use rpc_client::{Client, ClientConfig};
use rpc_core::{Compression, Token, Tokens, rpc_service};
use rpc_server::{Server, ServerConfig};
use serde::{Deserialize, Serialize};
use tests::{
    Task,
    occupied_thread::OccupiedThread,
    probe::{Probe, ProbingClient},
    serving::Serving,
};

/// Timeout far longer than a call needs.
const LONG: Duration = Duration::from_secs(50);

/// The callers whose jobs were decoded, in this order, and whether the test permits decoding.
#[derive(Default)]
struct Decoding {
    is_open: bool,
    callers: Vec<String>,
}

static DECODING: Mutex<Decoding> = Mutex::new(Decoding { is_open: false, callers: Vec::new() });
static OPENED: Condvar = Condvar::new();

/// A job whose decoding blocks its thread until the test permits it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(from = "Plain")]
struct Job {
    caller: String,
    data: Vec<u64>,
}

#[derive(Debug, Deserialize)]
struct Plain {
    caller: String,
    data: Vec<u64>,
}

impl From<Plain> for Job {
    fn from(Plain { caller, data }: Plain) -> Self {
        if caller.is_empty() {
            // A sample, with which the server describes its contract.
            return Self { caller, data };
        }
        // The limit ends a test that fails, whose runtime would otherwise wait for this thread.
        let decoding = DECODING.lock().unwrap();
        let (mut decoding, waited) = OPENED.wait_timeout_while(decoding, LONG, |decoding| !decoding.is_open).unwrap();
        assert!(!waited.timed_out(), "the test permits decoding");
        decoding.callers.push(caller.clone());
        drop(decoding);
        Self { caller, data }
    }
}

#[rpc_service(name = "test.Jobs", version = "1.0")]
trait Jobs {
    async fn run(&self, job: Job) -> u64;
}

struct Worker;

impl Jobs for Worker {
    async fn run(&self, job: Job) -> u64 {
        job.data.len() as u64
    }
}

/// Returns numbers that become shorter when they are compressed, but not shorter than 64 KiB.
fn numbers() -> Vec<u64> {
    let next = |number: &u64| Some(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    std::iter::successors(Some(1), next).take(20_000).flat_map(|number| [number, 0]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_with_many_connections_takes_turns_with_others() {
    let (ann, bob) = ("the secret of ann, the caller", "the secret of bob, the caller");
    let tokens = Tokens::new().with("ann", ann).unwrap().with("bob", bob).unwrap();
    let serving = Serving::start(Server::builder().service(JobsServer::new(Worker)).require_token(tokens)).await;
    let address = serving.address();
    let run = |name: &str, secret| {
        let client = Client::builder().config(tests::patient()).token(Token::new(name, secret).unwrap());
        let job = Job { caller: name.to_owned(), data: numbers() };
        let client = JobsClient::new(client.build().unwrap());
        Task::begin(async move { client.run(job).address(address).compression(Compression::Lz4).await })
    };
    // Many more jobs than threads that decode at the same time, each on a connection of its own.
    let jobs = 8 + 4 * available_parallelism().map_or(1, NonZero::get);
    let mut calls: Vec<_> = (0..jobs).map(|_| run("ann", ann)).collect();
    serving.until_counted(|counts| counts.running == jobs).await;
    calls.push(run("bob", bob));
    serving.until_counted(|counts| counts.running == jobs + 1).await;
    DECODING.lock().unwrap().is_open = true;
    OPENED.notify_all();
    for call in calls {
        assert_eq!(call.end().await.unwrap(), 40_000);
    }
    let decoding = DECODING.lock().unwrap();
    let turn = decoding.callers.iter().position(|caller| caller == "bob").unwrap();
    assert!(turn < jobs / 2, "the job of the other peer was the {turn}th of {jobs}");
}

#[test]
fn result_that_is_compressed_holds_no_permit() {
    OccupiedThread::run(async |thread| {
        let serving = Serving::probe(&Probe::default(), ServerConfig::default().with_max_running(1)).await;
        let client = ProbingClient::new(Client::builder().config(patient_gzip()).build().unwrap());
        let call = Task::begin(client.large(LONG_RESULT as u64).address(serving.address()));
        serving.until_counted(|counts| (counts.running, counts.unsent) == (0, 1)).await;
        // The connection reads further calls and answers them.
        assert_eq!(client.large(1).address(serving.address()).await.unwrap().len(), 1);
        thread.release().await;
        assert_eq!(call.end().await.unwrap().len(), LONG_RESULT);
        serving.until_counted(|counts| (counts.running, counts.unsent) == (0, 0)).await;
    });
}

/// Length of a result that exceeds the outbox.
const LONG_RESULT: usize = 2 << 20;

fn patient_gzip() -> ClientConfig {
    tests::patient().with_compression(Compression::Gzip)
}
