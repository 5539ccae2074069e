//! Hedges: when a call that is not answered is sent to a second provider, and what the second attempt's end means.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_client::{Client, ClientConfig};
use rpc_core::{
    Code, Hedging, Status,
    layer::{IncomingCall, Served, ServerLayer, ServerNext},
};
use rpc_registry::Memory;
use rpc_server::Server;
use tests::{
    Task, in_time,
    load::until_ready,
    probe::{Event, Probe, ProbingClient},
    serving::Serving,
};

/// Timeout of which a third is longer than any test waits.
const LONG: Duration = Duration::from_secs(600);

/// Rejects all calls with a code, and counts them.
#[derive(Clone)]
struct Rejecting(Code, Arc<AtomicUsize>);

impl ServerLayer for Rejecting {
    async fn serve(&self, _: &IncomingCall, next: ServerNext<'_>) -> Served {
        self.1.fetch_add(1, Ordering::SeqCst);
        next.reject(Status::new(self.0, "rejected"))
    }
}

async fn client_of(registry: Arc<Memory>, serving: &[Serving], config: ClientConfig) -> ProbingClient<Client> {
    let config = config.with_cache_directory(None).with_outlier_ejection(false);
    let client = Client::builder().registry(registry).config(config).build().unwrap();
    let probing = ProbingClient::new(client.clone());
    drop(probing.echo("resolve".to_owned()).timeout(Duration::from_millis(1)).await);
    until_ready(&client, &serving.iter().map(Serving::address).collect::<Vec<_>>()).await;
    probing
}

/// Two healthy providers that share a probe, and a client of them.
async fn healthy(name: &str, config: ClientConfig) -> (Probe, [Serving; 2], ProbingClient<Client>) {
    let (registry, probe) = (Arc::new(Memory::named(name)), Probe::default());
    let server = || Server::builder().service(probe.server()).registry(Arc::clone(&registry) as _);
    let serving = [Serving::start(server()).await, Serving::start(server()).await];
    let client = client_of(Arc::clone(&registry), &serving, config).await;
    (probe, serving, client)
}

fn began(probe: &Probe, key: u64) -> usize {
    probe.count(|event| *event == Event::Began(key))
}

#[tokio::test]
async fn call_without_hedge_executes_once() {
    let (probe, _serving, client) = healthy("without hedges", ClientConfig::default()).await;
    let timeout = Duration::from_secs(6);
    let without = Task::begin(client.hold_again(1).timeout(timeout).hedge(false));
    probe.until(Event::Began(1)).await;
    // This call started later, so its hedge starts after the hedge time of the first call.
    let with = Task::begin(client.hold_again(2).timeout(timeout));
    probe.until_true(|events| events.iter().filter(|event| **event == Event::Began(2)).count() == 2).await;
    assert_eq!(began(&probe, 1), 1);
    probe.release_all();
    assert_eq!((without.end().await.unwrap(), with.end().await.unwrap()), (1, 2));
}

#[tokio::test]
async fn client_without_hedges_executes_calls_once() {
    let config = ClientConfig::default().with_hedging(Hedging::Never);
    let (probe, _serving, client) = healthy("client without hedges", config).await;
    let without = Task::begin(client.hold_again(1).timeout(Duration::from_secs(6)));
    probe.until(Event::Began(1)).await;
    let with = Task::begin(client.hold_again(2).timeout(Duration::from_secs(6)).hedge(true));
    probe.until_true(|events| events.iter().filter(|event| **event == Event::Began(2)).count() == 2).await;
    assert_eq!(began(&probe, 1), 1);
    probe.release_all();
    assert_eq!((without.end().await.unwrap(), with.end().await.unwrap()), (1, 2));
}

#[tokio::test]
async fn hedge_starts_after_the_set_delay() {
    let (probe, _serving, client) = healthy("set delay", ClientConfig::default()).await;
    let call = Task::begin(client.hold_again(1).timeout(LONG).hedge_after(Duration::from_millis(10)));
    probe.until_true(|events| events.iter().filter(|event| **event == Event::Began(1)).count() == 2).await;
    probe.release_all();
    assert_eq!(call.end().await.unwrap(), 1);
}

/// A rejection of the hedge does not end the first attempt, whatever its code is.
#[tokio::test]
async fn rejected_hedge_leaves_the_running_attempt() {
    for code in [Code::PermissionDenied, Code::Unimplemented, Code::Unauthenticated, Code::Unavailable, Code::Internal]
    {
        let (registry, probe) = (Arc::new(Memory::named(&format!("rejected hedge {code}"))), Probe::default());
        let rejecting = Rejecting(code, Arc::default());
        let server = |probe: &Probe| Server::builder().service(probe.server()).registry(Arc::clone(&registry) as _);
        let serving = [
            Serving::start(server(&probe)).await,
            Serving::start(server(&Probe::default()).layer(rejecting.clone())).await,
        ];
        let client = client_of(Arc::clone(&registry), &serving, ClientConfig::default()).await;
        // Some keys belong to the provider that accepts calls.
        let mut key = 0_u32;
        while client.explained_peer(key).await != Some(serving[0].address()) {
            key += 1;
        }
        let before = rejecting.1.load(Ordering::SeqCst);
        let call = client.hold_again(1).affinity(key).timeout(LONG).hedge_after(Duration::from_millis(10));
        let call = Task::begin(call);
        probe.until(Event::Began(1)).await;
        in_time(async {
            while rejecting.1.load(Ordering::SeqCst) == before {
                tokio::task::yield_now().await;
            }
        })
        .await;
        probe.release_all();
        assert_eq!(call.end().await.unwrap(), 1, "{code}");
    }
}

/// The first provider does not answer, and the second one rejects the hedge.
#[tokio::test]
async fn rejected_hedge_is_followed_by_a_third_attempt() {
    for code in [Code::Unavailable, Code::Unimplemented] {
        let registry = Arc::new(Memory::named(&format!("third attempt {code}")));
        let (held, answering) = (Probe::default(), Probe::default());
        answering.release_all();
        let server = |probe: &Probe| Server::builder().service(probe.server()).registry(Arc::clone(&registry) as _);
        let serving = [
            Serving::start(server(&held)).await,
            Serving::start(server(&answering).layer(Rejecting(code, Arc::default()))).await,
            Serving::start(server(&answering)).await,
        ];
        let client = client_of(Arc::clone(&registry), &serving, ClientConfig::default()).await;
        let [first, second, third] = serving.each_ref().map(Serving::address);
        // The key determines the order of the providers.
        for key in 0_u32.. {
            if client.explained_peer(key).await != Some(first) {
                continue;
            }
            let call = client.hold_again(1).affinity(key).timeout(LONG).hedge_after(Duration::from_millis(10));
            let (outcome, explanation) = in_time(call.explain()).await;
            assert_eq!(outcome.unwrap(), 1, "{code}");
            let attempts: Vec<_> = explanation.attempts.iter().map(|attempt| attempt.address).collect();
            if attempts == [first, second, third] {
                break;
            }
            assert_eq!(attempts[..2], [first, third], "{code}");
        }
    }
}

/// The provider that a client picks first for a key.
trait FirstPeer {
    async fn explained_peer(&self, key: u32) -> Option<std::net::SocketAddr>;
}

impl FirstPeer for ProbingClient<Client> {
    async fn explained_peer(&self, key: u32) -> Option<std::net::SocketAddr> {
        let (_, explanation) = in_time(self.echo("x".to_owned()).affinity(key).explain()).await;
        explanation.attempts.first().map(|attempt| attempt.address)
    }
}
