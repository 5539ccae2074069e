//! [`Load`]: many concurrent callers of the ledger, and the outcomes of their calls.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rpc_client::{Client, EndpointState};
use rpc_core::{Code, Delivery, Error};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::ledger::{LedgerClient, Receipt};

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An idempotent call.
    Idempotent,
    /// A call that is neither idempotent nor a once call.
    Plain,
    /// A once call on one server.
    Once,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Idempotent, Self::Plain, Self::Once];
}

/// Callers that call continuously until [`end`](Self::end).
#[derive(Debug)]
pub struct Load {
    tally: watch::Sender<Tally>,
    end: CancellationToken,
    callers: JoinSet<()>,
}

/// The outcomes of calls.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// The number of answered calls by kind.
    pub answered: BTreeMap<Kind, u64>,
    /// The number of answered calls by server address.
    pub by: BTreeMap<SocketAddr, u64>,
    /// The calls that failed.
    pub failures: Vec<Failure>,
    /// The maximum time by which a call exceeded its timeout.
    pub late: Duration,
    /// The maximum duration of a call.
    pub slowest: Duration,
}

/// A call that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The kind of the call.
    pub kind: Kind,
    /// The unique number of the call.
    pub nonce: u64,
    /// The code of the error.
    pub code: Code,
    /// Whether a handler may have executed.
    pub delivery: Delivery,
    /// The peer of the last attempt.
    pub peer: Option<SocketAddr>,
    /// The start of the call.
    pub begun: Instant,
    /// The end of the call.
    pub ended: Instant,
    /// The text of the error.
    pub text: String,
}

impl Load {
    /// Starts `callers` tasks, each of which makes calls of `kinds` in turn.
    pub fn begin(client: &Client, callers: usize, kinds: &[Kind], timeout: Duration) -> Self {
        let (tally, end) = (watch::Sender::new(Tally::default()), CancellationToken::new());
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let kinds: Vec<_> = kinds.iter().copied().cycle().skip(caller % kinds.len()).take(kinds.len()).collect();
            let (ledger, tally, end) = (LedgerClient::new(client.clone()), tally.clone(), end.clone());
            tasks.spawn(async move {
                for kind in kinds.into_iter().cycle() {
                    if end.is_cancelled() {
                        break;
                    }
                    call(&ledger, kind, timeout, &tally).await;
                }
            });
        }
        Self { tally, end, callers: tasks }
    }

    /// Returns the outcomes so far.
    pub fn tally(&self) -> Tally {
        self.tally.borrow().clone()
    }

    /// Waits until `wanted` accepts the outcomes.
    ///
    /// # Panics
    ///
    /// Panics if it does not within 150 s.
    pub async fn until(&self, wanted: impl Fn(&Tally) -> bool) {
        let mut tally = self.tally.subscribe();
        let waited = tokio::time::timeout(LONG, tally.wait_for(|tally| wanted(tally))).await;
        drop(waited.unwrap_or_else(|_| panic!("timed out with {:?}", self.tally)).expect("the sender exists"));
    }

    /// Waits until the server at each of `addresses` has answered `more` further calls.
    ///
    /// # Panics
    ///
    /// Panics if one of them does not within 150 s.
    pub async fn until_answers(&self, addresses: &[SocketAddr], more: u64) {
        let before = self.tally().by;
        let answers = |by: &BTreeMap<SocketAddr, u64>, address| by.get(address).copied().unwrap_or(0);
        self.until(|tally| addresses.iter().all(|a| answers(&tally.by, a) >= answers(&before, a) + more)).await;
    }

    /// Stops the callers, waits for the calls in flight, and returns the outcomes.
    ///
    /// # Panics
    ///
    /// Panics if a caller panicked.
    pub async fn end(mut self) -> Tally {
        self.end.cancel();
        while let Some(ended) = crate::in_time(self.callers.join_next()).await {
            ended.expect("a caller panicked");
        }
        self.tally.borrow().clone()
    }
}

impl Tally {
    /// Returns the failures of calls of this kind.
    pub fn failures(&self, kind: Kind) -> Vec<&Failure> {
        self.failures.iter().filter(|failure| failure.kind == kind).collect()
    }

    /// Returns the number of answered calls of this kind.
    pub fn answered(&self, kind: Kind) -> u64 {
        self.answered.get(&kind).copied().unwrap_or(0)
    }

    /// Asserts that calls of this kind were answered and none failed.
    ///
    /// # Panics
    ///
    /// Panics if a call of this kind failed, or none was answered.
    pub fn expect_none_failed(&self, kind: Kind) {
        assert!(self.answered(kind) > 0, "no {kind:?} call was answered: {self:#?}");
        let failures = self.failures(kind);
        assert!(failures.is_empty(), "{} {kind:?} calls failed, the first: {:#?}", failures.len(), failures[0]);
    }

    /// Returns a summary of one line.
    pub fn line(&self) -> String {
        let failed = |kind| self.failures(kind).len();
        let each = Kind::ALL.map(|kind| format!("{kind:?} {} ok {} failed", self.answered(kind), failed(kind)));
        format!("{}; slowest {:?}, longest overrun of a timeout {:?}", each.join(", "), self.slowest, self.late)
    }
}

async fn call(ledger: &LedgerClient<Client>, kind: Kind, timeout: Duration, tally: &watch::Sender<Tally>) {
    static NONCES: AtomicU64 = AtomicU64::new(1);
    let nonce = NONCES.fetch_add(1, Ordering::Relaxed);
    let begun = Instant::now();
    let outcome: Result<Receipt, Error> = match kind {
        Kind::Idempotent => ledger.look_up(nonce).timeout(timeout).await,
        Kind::Plain => ledger.enter(nonce).timeout(timeout).await,
        Kind::Once => ledger.enter_once(nonce).timeout(timeout).await,
    };
    let ended = Instant::now();
    if let Ok(receipt) = &outcome {
        assert_eq!(receipt.nonce, nonce, "the call received the answer of another call");
    }
    let failed = outcome.is_err();
    tally.send_modify(|tally| {
        let took = ended - begun;
        tally.late = tally.late.max(took.saturating_sub(timeout));
        tally.slowest = tally.slowest.max(took);
        match outcome {
            Ok(receipt) => {
                *tally.answered.entry(kind).or_default() += 1;
                *tally.by.entry(receipt.address.expect("the call came over a socket")).or_default() += 1;
            }
            Err(error) => tally.failures.push(Failure {
                kind,
                nonce,
                code: error.code(),
                delivery: error.delivery(),
                peer: error.peer(),
                begun,
                ended,
                text: error.to_string(),
            }),
        }
    });
    if failed {
        // A loop of calls that fail without waiting must not saturate the processor.
        tokio::time::sleep(AFTER_FAILURE).await;
    }
}

/// Waits until `wanted` accepts the endpoints of `client`.
///
/// # Panics
///
/// Panics if it does not within 150 s.
pub async fn until_endpoints(client: &Client, wanted: impl Fn(&BTreeMap<SocketAddr, EndpointState>) -> bool) {
    let mut changes = client.changes();
    let waited = tokio::time::timeout(LONG, async {
        loop {
            changes.borrow_and_update();
            if wanted(&client.endpoints().into_iter().collect()) {
                return;
            }
            changes.changed().await.expect("the client exists");
        }
    });
    waited.await.unwrap_or_else(|_| panic!("timed out with {:?}", client.endpoints()));
}

/// Waits until `client` has a ready connection to each of `addresses`.
///
/// # Panics
///
/// Panics if it has not within 150 s.
pub async fn until_ready(client: &Client, addresses: &[SocketAddr]) {
    let ready = |state: Option<&EndpointState>| matches!(state, Some(EndpointState::Ready { .. }));
    until_endpoints(client, |endpoints| addresses.iter().all(|address| ready(endpoints.get(address)))).await;
}

/// Returns the seconds in the environment variable `variable`, or `default` if it is not set.
///
/// # Panics
///
/// Panics if the value is not a number.
pub fn seconds(variable: &str, default: u64) -> Duration {
    Duration::from_secs(number(variable, default))
}

/// Returns the number in the environment variable `variable`, or `default` if it is not set.
///
/// # Panics
///
/// Panics if the value is not a number.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("the variable is not a number"))
}

/// Limit of every wait. A registry client alone may take a minute to reconnect.
const LONG: Duration = Duration::from_secs(150);
/// Pause of a caller after a failed call.
const AFTER_FAILURE: Duration = Duration::from_millis(5);
