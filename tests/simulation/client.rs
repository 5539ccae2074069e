//! [`SimClient`]: a simulated client, which makes calls during the faults and after the repair.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rpc_client::{Client, ClientConfig};
use rpc_core::{BoxFuture, Call, CallError, Code, Discovery, Error, Method, Streaming};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    contract::{Answer, ArchiveClient, Arguments, LedgerClient},
    history::{CallOutcome, CallRecord, History, now},
    network::Network,
    services::{Kind, ServiceError, SimService},
    stream_calls::catch,
    stream_record::{Item, StreamCall},
};

/// A simulated client.
#[derive(Clone)]
pub(crate) struct SimClient {
    /// Number of the client.
    pub(crate) number: usize,
    /// Configuration of the client.
    pub(crate) config: ClientConfig,
    /// Number of concurrent calls.
    pub(crate) workers: usize,
    /// Time of the repair.
    pub(crate) repaired: Duration,
    /// Time at which all effects of the faults must have ended.
    pub(crate) settled: Duration,
    /// Records the events.
    pub(crate) history: Arc<History>,
    /// Seed of the client's calls.
    pub(crate) seed: u64,
    /// Whether all servers have the methods with streams.
    pub(crate) all_have_streams: bool,
}

/// Stubs of both services for one client.
#[derive(Clone)]
struct Stubs {
    ledger: LedgerClient<Client>,
    archive: ArchiveClient<Client>,
    history: Arc<History>,
    number: usize,
}

/// Parameters of a call.
struct CallPlan {
    service: SimService,
    kind: Kind,
    duration: Duration,
    fails: bool,
    panics: bool,
    padding: usize,
    timeout: Duration,
    wait_for_ready: bool,
    affinity: Option<u64>,
    dropped_after: Option<Duration>,
    must_succeed: bool,
    streams: Option<StreamCall>,
}

impl SimClient {
    /// Makes calls, records the final endpoints, and closes the client.
    pub(crate) async fn run(self, registry: Arc<dyn Discovery>, network: Network) -> turmoil::Result {
        let monitors = network.monitors();
        let client = Client::builder().registry(registry).connector(network).config(self.config.clone()).build()?;
        let stubs = Stubs {
            ledger: LedgerClient::new(client.clone()),
            archive: ArchiveClient::new(client.clone()),
            history: Arc::clone(&self.history),
            number: self.number,
        };
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let mut workers = JoinSet::new();
        for _ in 0..self.workers {
            workers.spawn(work(stubs.clone(), SmallRng::from_rng(&mut rng), self.repaired));
        }
        while let Some(worked) = workers.join_next().await {
            worked?;
        }
        sleep(self.settled.saturating_sub(now())).await;
        for number in 0..CALLS_AFTER_REPAIR {
            stubs.make_call(CallPlan::after_repair(number)).await;
        }
        for number in 0..STREAMS_AFTER_REPAIR {
            let plan = CallPlan::stream_after_repair(number);
            if self.all_have_streams || !plan.kind.sends_items() {
                stubs.make_call(plan).await;
            }
        }
        if monitors.open_calls() > 0 {
            self.history.record_violation(format!("client {} has calls with streams that did not end", self.number));
        }
        for (address, state) in client.endpoints() {
            self.history.record_endpoint(self.number, address, state.to_string());
        }
        if timeout(CLOSE_TIMEOUT, client.close()).await.is_err() {
            self.history.record_violation(format!("client {} does not close", self.number));
        }
        let plan = CallPlan { must_succeed: false, ..CallPlan::after_repair(0) };
        let nonce = stubs.make_call(plan).await;
        self.history.record_unless_rejected(nonce);
        Ok(())
    }
}

async fn work(stubs: Stubs, mut rng: SmallRng, until: Duration) {
    while now() < until {
        stubs.make_call(CallPlan::random(&mut rng)).await;
        sleep(Duration::from_millis(rng.random_range(0..60))).await;
    }
}

impl CallPlan {
    fn random(rng: &mut SmallRng) -> Self {
        let ms = Duration::from_millis;
        let kinds =
            [Kind::Idempotent, Kind::Idempotent, Kind::Plain, Kind::Plain, Kind::OneWay, Kind::Changed, Kind::Once];
        let streaming = [Kind::Download, Kind::Upload, Kind::Talk];
        let kinds = if rng.random_bool(0.25) { &streaming[..] } else { &kinds };
        let (service, kind) = (SimService::ALL[rng.random_range(0..2)], kinds[rng.random_range(0..kinds.len())]);
        let is_of_ledger = matches!(kind, Kind::Changed | Kind::Once) || kind.has_streams();
        Self {
            service: if is_of_ledger { SimService::Ledger } else { service },
            kind,
            duration: if rng.random_bool(0.4) { ms(0) } else { ms(rng.random_range(1..200)) },
            fails: rng.random_bool(0.1),
            panics: rng.random_bool(0.05),
            padding: if rng.random_bool(0.9) { 0 } else { rng.random_range(0..20_000) },
            timeout: ms(rng.random_range(5..600)),
            wait_for_ready: rng.random_bool(0.5),
            affinity: rng.random_bool(0.1).then(|| rng.random()),
            dropped_after: rng.random_bool(0.1).then(|| ms(rng.random_range(0..200))),
            must_succeed: false,
            streams: kind.has_streams().then(|| StreamCall::random(rng, kind)),
        }
    }

    fn after_repair(number: usize) -> Self {
        let kinds = [Kind::Plain, Kind::Idempotent];
        Self {
            service: SimService::ALL[number % 2],
            kind: kinds[number / 2 % 2],
            duration: Duration::ZERO,
            fails: false,
            panics: false,
            padding: 0,
            timeout: Duration::from_secs(4),
            wait_for_ready: true,
            affinity: None,
            dropped_after: None,
            must_succeed: true,
            streams: None,
        }
    }

    fn stream_after_repair(number: usize) -> Self {
        let kinds = [Kind::Download, Kind::Upload, Kind::Talk];
        // The items of the first one exceed its window.
        let (count, length) = if number == 0 { (30, 5_000) } else { (4, 100) };
        let streams = Some(StreamCall::complete(count, length));
        Self { service: SimService::Ledger, kind: kinds[number % 3], streams, ..Self::after_repair(0) }
    }
}

impl Stubs {
    /// Makes a call, records its outcome and returns its nonce.
    async fn make_call(&self, plan: CallPlan) -> u64 {
        let CallPlan { service, kind, duration, fails, panics, padding, must_succeed, .. } = plan;
        let (client, at) = (self.number, now());
        let deadline = at + plan.timeout;
        let panics = panics && plan.streams.is_none();
        let streams = plan.streams.clone();
        let record = CallRecord { client, service, kind, at, deadline, panics, must_succeed, streams, end: None };
        let nonce = self.history.record_call(record);
        let limit = plan.dropped_after.unwrap_or(plan.timeout + OVERDUE_LIMIT);
        let ended = match plan.streams.clone() {
            Some(mut streams) => {
                streams.arguments.nonce = nonce;
                let call = self.start_streams(&plan, &streams);
                // The stream of the caller may panic.
                let ended = timeout(limit, catch(call)).await;
                ended.map(|ended| match ended {
                    None => (CallOutcome::Dropped, None),
                    Some((outcome, stream)) => (outcome, stream.map(|stream| (streams, stream))),
                })
            }
            None => {
                let call = self.start(&plan, Arguments { nonce, duration, fails, panics, padding });
                timeout(limit, call).await.map(|outcome| (outcome, None))
            }
        };
        match ended {
            Ok((outcome, accepted)) => {
                self.history.record_outcome(nonce, outcome);
                if let Some((streams, stream)) = accepted {
                    streams.read(stream, &self.history).await;
                }
            }
            Err(_) if plan.dropped_after.is_some() => self.history.record_outcome(nonce, CallOutcome::Dropped),
            // The record of the call stays without an outcome.
            Err(_) => {}
        }
        nonce
    }

    fn start(&self, plan: &CallPlan, arguments: Arguments) -> BoxFuture<'static, CallOutcome> {
        let nonce = arguments.nonce;
        match (plan.service, plan.kind) {
            (SimService::Ledger, Kind::Idempotent) => answered(plan, nonce, self.ledger.read(arguments)),
            (SimService::Ledger, Kind::Plain) => answered(plan, nonce, self.ledger.write(arguments)),
            (SimService::Ledger, Kind::OneWay) => sent(plan, self.ledger.note(arguments)),
            (SimService::Archive, Kind::Idempotent) => answered(plan, nonce, self.archive.read(arguments)),
            (SimService::Ledger, Kind::Changed) => answered(plan, nonce, self.ledger.audit(arguments)),
            (SimService::Ledger, Kind::Once) => answered(plan, nonce, self.ledger.charge(arguments)),
            // The second service has no other methods.
            (SimService::Archive, Kind::Plain | Kind::Changed | Kind::Once) => {
                answered(plan, nonce, self.archive.write(arguments))
            }
            (SimService::Archive, Kind::OneWay) => sent(plan, self.archive.note(arguments)),
            (_, Kind::Download | Kind::Upload | Kind::Talk) => unreachable!("a call with streams"),
        }
    }

    fn start_streams(&self, plan: &CallPlan, streams: &StreamCall) -> BoxFuture<'static, Accepted> {
        let arguments = streams.arguments.clone();
        match plan.kind {
            Kind::Download => accepted(plan, self.ledger.download(arguments)),
            Kind::Talk => accepted(plan, self.ledger.talk(arguments, streams.items(&self.history))),
            _ => {
                let call = with_options(plan, self.ledger.upload(arguments, streams.items(&self.history)));
                let streams = streams.clone();
                Box::pin(async move {
                    let outcome = match call.await {
                        Ok(answer) => {
                            let whole = streams.is_whole(answer.padding.len());
                            CallOutcome::Answered { nonce: Some(answer.nonce), whole }
                        }
                        Err(error) => unanswered(error),
                    };
                    (outcome, None)
                })
            }
        }
    }
}

/// The outcome of a call with streams, and the stream of the callee if it has accepted the call.
type Accepted = (CallOutcome, Option<Streaming<Item, ServiceError>>);

fn accepted<M>(plan: &CallPlan, call: Call<Client, M>) -> BoxFuture<'static, Accepted>
where
    M: Method<Outcome = Result<Streaming<Item, ServiceError>, CallError<ServiceError>>>,
{
    let call = with_options(plan, call);
    Box::pin(async move {
        match call.await {
            Ok(stream) => (CallOutcome::Answered { nonce: None, whole: true }, Some(stream)),
            Err(error) => (unanswered(error), None),
        }
    })
}

fn unanswered(error: CallError<ServiceError>) -> CallOutcome {
    match error {
        CallError::Service(error) => CallOutcome::Answered { nonce: Some(error.nonce), whole: true },
        CallError::Rpc(error) => failed(&error),
    }
}

fn with_options<M: Method>(plan: &CallPlan, call: Call<Client, M>) -> Call<Client, M> {
    let call = call.timeout(plan.timeout).wait_for_ready(plan.wait_for_ready);
    match plan.affinity {
        Some(key) => call.affinity(key),
        None => call,
    }
}

fn answered<M>(plan: &CallPlan, nonce: u64, call: Call<Client, M>) -> BoxFuture<'static, CallOutcome>
where
    M: Method<Outcome = Result<Answer, CallError<ServiceError>>>,
{
    let (call, length) = (with_options(plan, call), plan.padding);
    Box::pin(async move {
        match call.await {
            Ok(answer) => {
                let whole = answer.padding == vec![nonce as u8; length];
                CallOutcome::Answered { nonce: Some(answer.nonce), whole }
            }
            Err(error) => unanswered(error),
        }
    })
}

fn sent<M: Method<Outcome = Result<(), Error>>>(
    plan: &CallPlan,
    call: Call<Client, M>,
) -> BoxFuture<'static, CallOutcome> {
    let call = with_options(plan, call);
    Box::pin(async move {
        match call.await {
            Ok(()) => CallOutcome::Answered { nonce: None, whole: true },
            Err(error) => failed(&error),
        }
    })
}

fn failed(error: &Error) -> CallOutcome {
    CallOutcome::Failed { code: error.code(), delivery: error.delivery(), text: error.to_string() }
}

impl History {
    /// Records a violation unless the client rejected call `nonce`, which it received after its close.
    fn record_unless_rejected(&self, nonce: u64) {
        let end = self.events().calls[nonce as usize].end.clone();
        if !matches!(end, Some((_, CallOutcome::Failed { code: Code::Unavailable, .. }))) {
            self.record_violation(format!("a closed client accepted call {nonce}: {end:?}"));
        }
    }
}

/// Number of calls after the repair: enough for random selection to reach each of three providers.
const CALLS_AFTER_REPAIR: usize = 40;
/// Number of calls with streams after the repair: two of each kind.
const STREAMS_AFTER_REPAIR: usize = 6;
/// Without calls in flight, a close waits only until the peers close their sides.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// Time after its deadline at which a running call counts as a violation.
const OVERDUE_LIMIT: Duration = Duration::from_millis(500);
