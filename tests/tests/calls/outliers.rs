//! Outlier ejection: a provider whose calls fail while those of others succeed receives no calls for a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_client::{Client, ClientConfig, EndpointState};
use rpc_core::{BoxFuture, Code, MethodInfo, Payload, Registry as _, Responder, Service, ServiceId, Status, Streaming};
use rpc_registry::Memory;
use rpc_server::{Server, ServerBuilder};
use tests::{
    failing_sink::FailingSink,
    in_time,
    ledger::{Clerk, LEDGER, LedgerClient},
    load::until_ready,
    probe::{Probe, ProbingClient},
    serving::Serving,
};
use tokio::task::JoinSet;

use crate::region::{Region, RegionClient, RegionServer};

/// A service whose calls all end in the same way.
#[derive(Clone)]
struct Faulty {
    probe: Arc<dyn Service>,
    fault: Fault,
    calls: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The handler answers with this code at once.
    Answers(Code),
    /// The handler of this method answers `Internal` at once; the others work.
    Fails(&'static str),
    /// The handler takes this long.
    Takes(Duration),
    /// The handler never ends, while the server answers pings.
    Hangs,
}

impl Service for Faulty {
    fn id(&self) -> &ServiceId {
        self.probe.id()
    }

    fn methods(&self) -> &[MethodInfo] {
        self.probe.methods()
    }

    fn call(&self, method: usize, payload: Payload, responder: Responder) -> BoxFuture<'static, ()> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Fault::Answers(code) => responder.status(Status::new(code, "this provider is faulty")),
            Fault::Fails(name) if self.methods()[method].name() == name => {
                responder.status(Status::new(Code::Internal, "this method is faulty"));
            }
            Fault::Fails(_) => return self.probe.call(method, payload, responder),
            Fault::Takes(time) => {
                let probe = Arc::clone(&self.probe);
                return Box::pin(async move {
                    tokio::time::sleep(time).await;
                    probe.call(method, payload, responder).await;
                });
            }
            Fault::Hangs => {
                return Box::pin(async {
                    let _responder = responder;
                    std::future::pending().await
                });
            }
        }
        Box::pin(std::future::ready(()))
    }
}

/// Providers of which the first `faulty` ones are faulty, and a client with a connection to each.
struct Scene {
    faulty: Faulty,
    serving: Vec<Serving>,
    client: Client,
    probing: ProbingClient<Client>,
}

impl Scene {
    async fn new(name: &str, fault: Fault, faulty: usize, healthy: usize) -> Self {
        Self::with(Arc::new(Memory::named(name)), fault, faulty, healthy, |builder| builder).await
    }

    /// The providers also serve `test.Ledger`, which works. The last one is not registered for it.
    async fn shared(name: &str, fault: Fault, faulty: usize, healthy: usize) -> Self {
        let (registry, directory) = (Arc::new(Memory::named(name)), tempfile::tempdir().unwrap());
        let clerk = Clerk::new(directory.path(), Duration::ZERO);
        let scene = Self::with(Arc::clone(&registry), fault, faulty, healthy, |builder| {
            builder.service(clerk.clone().server())
        });
        let scene = scene.await;
        registry.deregister(&LEDGER, scene.serving.last().unwrap().address()).await.unwrap();
        scene
    }

    async fn with(
        registry: Arc<Memory>,
        fault: Fault,
        faulty: usize,
        healthy: usize,
        extend: impl Fn(ServerBuilder) -> ServerBuilder,
    ) -> Self {
        let service = Faulty { probe: Arc::new(Probe::default().server()), fault, calls: Arc::default() };
        let mut serving = Vec::new();
        for number in 0..faulty + healthy {
            let builder = match number < faulty {
                true => Server::builder().service(service.clone()),
                false => Server::builder().service(Probe::default().server()),
            };
            serving.push(Serving::start(extend(builder).registry(Arc::clone(&registry) as _)).await);
        }
        let config = ClientConfig::default().with_cache_directory(None);
        let client = Client::builder().registry(registry).config(config).build().unwrap();
        let probing = ProbingClient::new(client.clone());
        drop(probing.echo("resolve".to_owned()).timeout(Duration::from_millis(1)).await);
        until_ready(&client, &serving.iter().map(Serving::address).collect::<Vec<_>>()).await;
        Self { faulty: service, serving, client, probing }
    }

    fn state(&self, index: usize) -> EndpointState {
        let endpoints = self.client.endpoints();
        endpoints.into_iter().find(|(address, _)| *address == self.serving[index].address()).unwrap().1
    }
}

/// Without ejection, the fast failures attract most of the calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fast_failing_provider_is_ejected() {
    let scene = Scene::new("fails fast", Fault::Answers(Code::Internal), 1, 2).await;
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let probing = scene.probing.clone();
        callers.spawn(async move {
            let mut failures = 0;
            for _ in 0..250 {
                failures += usize::from(probing.echo("x".to_owned()).await.is_err());
            }
            failures
        });
    }
    let failures: usize = in_time(callers.join_all()).await.into_iter().sum();
    assert!(failures <= 50, "{failures} of 1000 calls failed");
    assert!(scene.client.counts().ejections > 0);
}

#[tokio::test]
async fn hanging_provider_is_ejected_after_overtaken_attempts() {
    let scene = Scene::new("hangs", Fault::Hangs, 1, 1).await;
    for _ in 0..60 {
        let call = scene.probing.again("x".to_owned()).timeout(Duration::from_millis(300));
        assert_eq!(in_time(call).await.unwrap(), "x");
    }
    assert!(scene.client.counts().ejections > 0);
    let explanation = scene.client.explain(&tests::serving::PROBE).to_string();
    assert!(explanation.contains("ejected for another"), "{explanation}");
    assert!(matches!(scene.state(0), EndpointState::Ejected { .. }));
    let calls = scene.faulty.calls.load(Ordering::SeqCst);
    assert!(calls <= 20, "{calls} of 60 calls reached the hanging provider");
}

/// One service ejects two of its four providers. Of the other service, these are two of three providers.
#[tokio::test]
async fn service_uses_providers_that_another_one_ejected() {
    let scene = Scene::shared("shared endpoints", Fault::Answers(Code::Internal), 2, 2).await;
    let ledger = LedgerClient::new(scene.client.clone());
    in_time(scene.client.warm_up::<LedgerClient<_>>()).await.unwrap();
    let are_ejected = || (0..2).all(|index| matches!(scene.state(index), EndpointState::Ejected { .. }));
    in_time(async {
        loop {
            drop(scene.probing.echo("x".to_owned()).await);
            if !are_ejected() {
                continue;
            }
            let mut reached = 0;
            for nonce in 0..20 {
                let address = ledger.look_up(nonce).await.unwrap().address;
                reached += usize::from(scene.serving[..2].iter().any(|one| Some(one.address()) == address));
            }
            // The ejections may have ended meanwhile.
            if are_ejected() {
                assert!(reached > 0, "all calls of the service go to its last provider");
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn subscriber_learns_of_the_end_of_an_ejection() {
    let scene = Scene::new("returns", Fault::Answers(Code::Internal), 1, 1).await;
    while scene.client.counts().ejections == 0 {
        drop(scene.probing.echo("x".to_owned()).await);
    }
    let addresses: Vec<_> = scene.serving.iter().map(Serving::address).collect();
    // Waits for changes, of which no call causes one.
    in_time(until_ready(&scene.client, &addresses)).await;
    assert!(matches!(scene.state(0), EndpointState::Ready { .. }));
}

/// The caller's task logs the ejection.
#[tokio::test]
async fn ejection_survives_a_failing_log_sink() {
    let scene = Scene::new("failing sink", Fault::Answers(Code::Internal), 1, 1).await;
    let (events, _guard) = FailingSink::install("rpc_client");
    while scene.client.counts().ejections == 0 {
        drop(scene.probing.echo("x".to_owned()).await);
    }
    assert!(events.load(Ordering::Relaxed) > 0);
    assert_eq!(scene.probing.echo("x".to_owned()).await.unwrap(), "x");
}

#[tokio::test]
async fn common_fault_ejects_no_provider() {
    let scene = Scene::new("common fault", Fault::Answers(Code::Unavailable), 4, 0).await;
    for _ in 0..400 {
        let error = scene.probing.echo("x".to_owned()).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::Unavailable, "this provider is faulty"));
    }
    assert_eq!(scene.client.counts().ejections, 0);
}

#[tokio::test]
async fn faulty_method_ejects_no_provider() {
    let scene = Scene::new("faulty method", Fault::Fails("echo"), 4, 0).await;
    for _ in 0..1000 {
        assert_eq!(scene.probing.echo("x".to_owned()).await.unwrap_err().code(), Code::Internal);
        assert_eq!(scene.probing.again("x".to_owned()).await.unwrap(), "x");
    }
    assert_eq!(scene.client.counts().ejections, 0);
}

/// The calls with one key all go to one provider, whose failures the idle others cannot refute.
#[tokio::test]
async fn faulty_key_ejects_no_provider() {
    let scene = Scene::new("faulty key", Fault::Fails("echo"), 4, 0).await;
    for _ in 0..100 {
        drop(scene.probing.echo("x".to_owned()).affinity(7).await);
    }
    assert_eq!(scene.client.counts().ejections, 0);
}

/// A hedge time below the latency of a healthy provider is a valid setting.
#[tokio::test]
async fn overtaken_healthy_provider_is_not_ejected() {
    let scene = Scene::new("slower", Fault::Takes(Duration::from_millis(10)), 1, 1).await;
    for _ in 0..100 {
        let call = scene.probing.again("x".to_owned()).hedge_after(Duration::from_millis(1));
        assert_eq!(in_time(call).await.unwrap(), "x");
    }
    assert!(scene.faulty.calls.load(Ordering::SeqCst) > 10);
    assert_eq!(scene.client.counts().ejections, 0);
}

#[tokio::test]
async fn errors_of_the_service_eject_no_provider() {
    let scene = Scene::new("own errors", Fault::Answers(Code::NotFound), 2, 2).await;
    for _ in 0..200 {
        drop(scene.probing.echo("x".to_owned()).await);
    }
    assert_eq!(scene.client.counts().ejections, 0);
    assert!(scene.faulty.calls.load(Ordering::SeqCst) > 50);
}

#[tokio::test]
async fn only_provider_is_never_ejected() {
    let scene = Scene::new("alone", Fault::Answers(Code::Internal), 1, 0).await;
    for _ in 0..20 {
        assert_eq!(scene.probing.echo("x".to_owned()).await.unwrap_err().code(), Code::Internal);
    }
    assert_eq!(scene.client.counts().ejections, 0);
}

/// A provider whose streams end at once, after it has accepted them.
#[derive(Clone)]
struct EndsStreams {
    name: &'static str,
    /// The code with which its streams end before their first items; `None` for one item and no error.
    code: Option<Code>,
}

impl Region for EndsStreams {
    async fn name(&self) -> String {
        self.name.to_owned()
    }

    async fn relay(&self) -> String {
        self.name.to_owned()
    }

    async fn exclusive(&self) -> String {
        self.name.to_owned()
    }

    async fn watch(&self) -> Streaming<u64> {
        let item = self.code.map_or(Ok(7), |code| Err(Status::new(code, "this provider is faulty")));
        Streaming::from_stream(futures_util::stream::iter([item]))
    }
}

/// Starts providers of which the first one ends its streams with `code`. Returns a client, and the failed ones of 150 streams.
async fn failed_streams(name: &str, code: Code) -> (Client, usize) {
    let registry = Arc::new(Memory::named(name));
    let mut serving = Vec::new();
    for (name, code) in [("faulty", Some(code)), ("one", None), ("other", None)] {
        let server = Server::builder().service(RegionServer::new(EndsStreams { name, code }));
        serving.push(Serving::start(server.registry(Arc::clone(&registry) as _)).await);
    }
    let config = ClientConfig::default().with_cache_directory(None);
    let client = Client::builder().registry(registry).config(config).build().unwrap();
    let region = RegionClient::new(client.clone());
    drop(region.name().timeout(Duration::from_millis(1)).await);
    until_ready(&client, &serving.iter().map(Serving::address).collect::<Vec<_>>()).await;
    let mut failed = 0;
    for _ in 0..150 {
        let mut items = in_time(region.watch()).await.unwrap();
        failed += usize::from(in_time(items.next()).await.unwrap().is_err());
    }
    (client, failed)
}

#[tokio::test]
async fn streams_that_fail_at_once_eject_their_provider() {
    let (client, failed) = failed_streams("failing streams", Code::Internal).await;
    assert!(client.counts().ejections > 0);
    assert!(failed <= 30, "{failed} of 150 streams");
}

#[tokio::test]
async fn own_errors_of_streams_eject_no_provider() {
    let (client, failed) = failed_streams("own errors of streams", Code::NotFound).await;
    assert!(failed > 30, "{failed} of 150 streams");
    assert_eq!(client.counts().ejections, 0);
}
