//! [`Load`]: many callers of the ledger at once, and how their calls went.

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

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What may be called again.
    Idempotent,
    /// What may not.
    Plain,
    /// What runs once on one server.
    Once,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Idempotent, Self::Plain, Self::Once];
}

/// Callers that call without a pause until they are told to end.
#[derive(Debug)]
pub struct Load {
    tally: watch::Sender<Tally>,
    end: CancellationToken,
    callers: JoinSet<()>,
}

/// How calls went.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// The calls that were answered, by what was called.
    pub answered: BTreeMap<Kind, u64>,
    /// How many of them were answered by whom.
    pub by: BTreeMap<SocketAddr, u64>,
    /// The calls that were not.
    pub failures: Vec<Failure>,
    /// The longest that a call took over its timeout.
    pub late: Duration,
    /// The longest that a call took.
    pub slowest: Duration,
}

/// A call that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What was called.
    pub kind: Kind,
    /// The call's own number.
    pub nonce: u64,
    /// The outcome.
    pub code: Code,
    /// Whether it may have run.
    pub delivery: Delivery,
    /// Who was asked last.
    pub peer: Option<SocketAddr>,
    /// When the call was made.
    pub begun: Instant,
    /// When it failed.
    pub ended: Instant,
    /// The words.
    pub text: String,
}

impl Load {
    /// Begins to call what is in `kinds`, in turn, from `callers` tasks at once.
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

    /// How the calls went so far.
    pub fn tally(&self) -> Tally {
        self.tally.borrow().clone()
    }

    /// Waits until `wanted` is true of how the calls went.
    ///
    /// # Panics
    ///
    /// When it does not become true for a long time.
    pub async fn until(&self, wanted: impl Fn(&Tally) -> bool) {
        let mut tally = self.tally.subscribe();
        let waited = tokio::time::timeout(LONG, tally.wait_for(|tally| wanted(tally))).await;
        drop(waited.unwrap_or_else(|_| panic!("it does not come: {:?}", self.tally)).expect("the load lives"));
    }

    /// Waits until each of these addresses has given that many more answers.
    ///
    /// # Panics
    ///
    /// When they do not for a long time.
    pub async fn until_answers(&self, addresses: &[SocketAddr], more: u64) {
        let before = self.tally().by;
        let answers = |by: &BTreeMap<SocketAddr, u64>, address| by.get(address).copied().unwrap_or(0);
        self.until(|tally| addresses.iter().all(|a| answers(&tally.by, a) >= answers(&before, a) + more)).await;
    }

    /// Lets the calls end that are on their way, and makes no more.
    ///
    /// # Panics
    ///
    /// When a caller did.
    pub async fn end(mut self) -> Tally {
        self.end.cancel();
        while let Some(ended) = crate::in_time(self.callers.join_next()).await {
            ended.expect("a caller does not panic");
        }
        self.tally.borrow().clone()
    }
}

impl Tally {
    /// The failures of calls of this kind.
    pub fn failures(&self, kind: Kind) -> Vec<&Failure> {
        self.failures.iter().filter(|failure| failure.kind == kind).collect()
    }

    /// How many calls of this kind were answered.
    pub fn answered(&self, kind: Kind) -> u64 {
        self.answered.get(&kind).copied().unwrap_or(0)
    }

    /// No call of this kind failed, and there were some.
    ///
    /// # Panics
    ///
    /// When it is not so.
    pub fn expect_none_failed(&self, kind: Kind) {
        assert!(self.answered(kind) > 0, "no {kind:?} call was answered: {self:#?}");
        let failures = self.failures(kind);
        assert!(failures.is_empty(), "{} {kind:?} calls failed, the first: {:#?}", failures.len(), failures[0]);
    }

    /// One line for a person.
    pub fn line(&self) -> String {
        let failed = |kind| self.failures(kind).len();
        let each = Kind::ALL.map(|kind| format!("{kind:?} {} ok {} failed", self.answered(kind), failed(kind)));
        format!("{}; slowest {:?}, latest over its timeout {:?}", each.join(", "), self.slowest, self.late)
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
        assert_eq!(receipt.nonce, nonce, "an answer reached a call that did not ask");
    }
    let failed = outcome.is_err();
    tally.send_modify(|tally| {
        let took = ended - begun;
        tally.late = tally.late.max(took.saturating_sub(timeout));
        tally.slowest = tally.slowest.max(took);
        match outcome {
            Ok(receipt) => {
                *tally.answered.entry(kind).or_default() += 1;
                *tally.by.entry(receipt.address.expect("it came over a socket")).or_default() += 1;
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
        // Where everything fails at once, failing is not all that is to be done.
        tokio::time::sleep(AFTER_FAILURE).await;
    }
}

/// Waits until `wanted` is true of what `client` knows of addresses.
///
/// # Panics
///
/// When it does not become true for a long time.
pub async fn until_endpoints(client: &Client, wanted: impl Fn(&BTreeMap<SocketAddr, EndpointState>) -> bool) {
    let mut changes = client.changes();
    let waited = tokio::time::timeout(LONG, async {
        loop {
            changes.borrow_and_update();
            if wanted(&client.endpoints().into_iter().collect()) {
                return;
            }
            changes.changed().await.expect("the client lives");
        }
    });
    waited.await.unwrap_or_else(|_| panic!("it does not come: {:?}", client.endpoints()));
}

/// Waits until `client` has a connection to each of these addresses that answers.
pub async fn until_ready(client: &Client, addresses: &[SocketAddr]) {
    let ready = |state: Option<&EndpointState>| matches!(state, Some(EndpointState::Ready { .. }));
    until_endpoints(client, |endpoints| addresses.iter().all(|address| ready(endpoints.get(address)))).await;
}

/// The seconds that `variable` asks for, else `otherwise`.
///
/// # Panics
///
/// When it is not a number.
pub fn seconds(variable: &str, otherwise: u64) -> Duration {
    Duration::from_secs(number(variable, otherwise))
}

/// The number in an environment variable, or else this.
///
/// # Panics
///
/// When it is not a number.
pub fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// More than anything takes: a registry's client alone may take a minute to come back.
const LONG: Duration = Duration::from_secs(150);
const AFTER_FAILURE: Duration = Duration::from_millis(5);
